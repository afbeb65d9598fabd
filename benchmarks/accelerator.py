"""What an accelerator makes of all this: parity, attention, training and upscaling, in one file of results.

    python -m benchmarks.accelerator --out runs/accelerator

Each row is a process of its own on the machine's devices, so that one that fails, or lacks memory, is a row and not the
end, and its memory is its own. `--tiny` takes networks of eight channels, to see that all runs, and times nothing that
matters. Figures are written after each row.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks import report

ROOT = Path(__file__).parents[1]
DTYPES = ("float32", "bfloat16")
Figures = dict[str, dict[str, Any]]  # case -> figures, or {"failed": why}


@dataclass(frozen=True, kw_only=True)
class Options:
    """One machine's devices.

    Attributes:
        out: the table and the figures, without an ending.
        tiny: eight channels in place of full size.
        only: the kinds of rows to make: parity, attention, stage, upscale, pytorch; all if left out.
    """

    out: Path
    tiny: bool = False
    only: tuple[str, ...] = ()


def cases(options: Options) -> list[str]:
    """Name the rows: what is measured, of what, and how."""
    sides = (64, 96) if options.tiny else (512, 1024)
    upscaling = [f"{kind}:{side}:{dtype}" for side in sides for dtype in DTYPES for kind in ("upscale", "pytorch")]
    attention = [f"attention:{dtype}" for dtype in DTYPES]
    stages = [f"stage:{stage}" for stage in ("decoder", "encoder", "adapt")]
    found = ["parity:networks", "parity:gradients", *attention, *stages, *upscaling]
    kinds = {case.partition(":")[0] for case in found}
    if unknown := set(options.only) - kinds:
        raise ValueError(f"--only {' '.join(sorted(unknown))}: rows are of {', '.join(sorted(kinds))}")
    return [case for case in found if not options.only or case.partition(":")[0] in options.only]


def measure(options: Options) -> Iterator[Figures]:
    """Make one row after the other, and give all that there are so far."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as work:
        for case in cases(options):
            print(f"{case} ...", file=sys.stderr, flush=True)
            figures[case] = run(case, options.tiny, Path(work))
            yield figures


def run(case: str, tiny: bool, work: Path) -> dict[str, Any]:
    """Measure in a process of its own."""
    words = ["-m", "benchmarks.accelerator", "--case", json.dumps([case, tiny, str(work)])]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        return {"failed": f"exit status {done.returncode}: {last[:300]}"}
    return json.loads(done.stdout.splitlines()[-1])


def tables(figures: Figures) -> str:
    """In Markdown: a table a kind, and what failed or was left out."""
    machines = {str(found["machine"]): None for found in figures.values() if "machine" in found}
    parts = [f"On {', '.join(machines) or 'an unknown machine'}."]
    for kind in dict.fromkeys(case.partition(":")[0] for case in figures):
        rows = {
            f"{case.partition(':')[2]} {name}".strip(): row
            for case, found in figures.items()
            if case.partition(":")[0] == kind
            for name, row in found.get("rows", {}).items()
        }
        header = list(dict.fromkeys(column for row in rows.values() for column in row))
        cells = [[name, *(_cell(row.get(column)) for column in header)] for name, row in rows.items()]
        parts += [report.markdown([kind, *header], cells)] if rows else []
    parts += [f"{case} failed: {found['failed']}" for case, found in figures.items() if "failed" in found]
    parts += [f"{case} left out: {found['left out']}" for case, found in figures.items() if "left out" in found]
    return "\n\n".join(parts)


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.4g}"


def main() -> None:
    """Measure, print and write the tables; a row that failed makes the exit status 1."""
    options = tyro.cli(Options, description=__doc__)
    figures: Figures = {}
    for figures in measure(options):
        report.write(options.out, figures, tables(figures))
    print(tables(figures))
    if failed := [case for case, found in figures.items() if "failed" in found]:
        raise ValueError(f"{len(failed)} of {len(figures)} rows failed: {', '.join(failed)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        from benchmarks.accelerator_cases import figures_of

        print(json.dumps(figures_of(*json.loads(sys.argv[2]))))
    else:
        report.run_as_command(main)
