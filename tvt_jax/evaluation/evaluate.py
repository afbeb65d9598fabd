"""What eval.py does, from folders to files and the exit status."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tvt_jax.evaluation.categories import read_categories
from tvt_jax.evaluation.compare import Run, format_comparison, other_truths
from tvt_jax.evaluation.metrics import choose_metrics
from tvt_jax.evaluation.pairs import Pairs, find_pairs
from tvt_jax.evaluation.progress import METRIC_CODE, Progress
from tvt_jax.evaluation.report import write_report
from tvt_jax.evaluation.restoration import load_model, place_results, restore
from tvt_jax.evaluation.scores import Evaluation, format_table, read_evaluation, write_evaluation
from tvt_jax.evaluation.scoring import Results, evaluate
from tvt_jax.files import check_writable
from tvt_jax.fingerprint import RESTORATION_CODE, code_fingerprint, file_hash
from tvt_jax.hub import fetch
from tvt_jax.inference.mark import fingerprint
from tvt_jax.inference.upscaler import PRETRAINED

OtherRuns = Sequence[tuple[Run, Path]]  # with the files that they were read from


def run(
    *,
    lr: Path | None,
    sr: Path | None,
    hr: Path,
    model: Path | None,
    metrics: str,
    out: Path,
    save: Path | None,
    tile: int | None = None,
    crop_border: int = 0,
    sr_suffix: str = "",
    force: bool = False,
    report: Path | None = None,
    against: Sequence[str] = (),
    categories: Path | None = None,
) -> int:
    """Score the folder `sr`, or `lr` enlarged by `model`, and return the exit status.

    Raises:
        FileNotFoundError: a folder, the model or a file of an earlier run is not there.
        ValueError: the arguments do not go together, a metric is unknown, or no picture has a partner.
    """
    _check(lr, sr, [*filter(None, (model, save, tile))], crop_border, bool(categories and not report))
    source, own = (sr, sr.resolve().name) if sr else (lr, "this run")
    assert source  # for the type checker
    if lr and lr.resolve() == hr.resolve():
        raise ValueError(f"--lr and --hr are both {hr}: enlarged pictures need larger truths, in a folder of their own")
    chosen, others = choose_metrics(metrics), _read_runs(against, own)
    _check_outputs(out, report)
    folder = fetch(model) if model else PRETRAINED
    settings = f"{metrics} {crop_border} {code_fingerprint(METRIC_CODE)}"
    if lr:
        settings += f" {tile} {fingerprint(folder)} {code_fingerprint(RESTORATION_CODE)}"
    progress = Progress(out, settings, force=force)
    pairs, left_out = find_pairs(source, hr, sr_suffix, [*([save] if save else []), progress.folder])
    _keep_pictures(pairs, out, report)
    kinds = read_categories(categories, pairs)
    # The report shows results, so it needs them for as long as it is written.
    keep = bool(save or report)
    results = _results(pairs, lr, save or progress.folder / "results", folder, tile, keep) if lr else None
    evaluation = evaluate(pairs, chosen, progress, results, border=crop_border, failures=left_out)
    if sr or save:
        _tell_files(evaluation, out, pairs, results)
    write_evaluation(out, evaluation)
    runs = [Run(own, evaluation), *(run for run, _ in others)]
    if report:
        layers = {name: _layers(name, pair, results, others) for name, pair in pairs.items()}
        write_report(report, f"{source.name} against {hr.name}", runs, layers, kinds)
    progress.finish()
    return _tell(runs)


def _check(lr: Path | None, sr: Path | None, of_model: Sequence[object], border: int, alone: bool) -> None:
    """Raise ValueError where the arguments of `run` do not go together."""
    if not (lr or sr):
        raise ValueError("give --lr, a folder for the model to enlarge, or --sr, a folder of results")
    if sr and of_model:
        raise ValueError("--model, --save and --tile go with --lr: the pictures of --sr are scored as they are")
    if border < 0:
        raise ValueError(f"--crop-border {border} is out of range, use 0 or more pixels")
    if alone:
        raise ValueError("--categories goes with --report: it is what the report has columns of")


def _check_outputs(out: Path, report: Path | None) -> None:
    """Raise ValueError where what comes at the end can't be written then."""
    if report and report.resolve() == out.resolve():
        raise ValueError(f"--out and --report are both {out}: give them names of their own")
    for path in filter(None, (out, report)):
        check_writable(path)


def _keep_pictures(pairs: Pairs, out: Path, report: Path | None) -> None:
    """Raise ValueError where what is written would take the place of a picture."""
    pictures = {path.resolve() for pair in pairs.values() for path in pair}
    if taken := [path for path in (out, report) if path and path.resolve() in pictures]:
        raise ValueError(f"{taken[0]} is one of the pictures, and would be overwritten: choose another name")


def _read_runs(against: Sequence[str], own: str) -> OtherRuns:
    taken, runs = {own, "input", "result", "truth"}, []
    for text in against:
        name, found, file = text.partition("=")
        if not (found and name):
            raise ValueError(f"--against {text} is not of the form NAME=metrics.json")
        if name in taken:
            raise ValueError(f"--against {text}: '{name}' is taken, choose another name")
        taken.add(name)
        runs.append((Run(name, read_evaluation(Path(file))), Path(file)))
    return runs


def _results(pairs: Pairs, lr: Path, folder: Path, model: Path, tile: int | None, keep: bool) -> Results:
    places, upscaler = place_results(pairs, lr, folder), load_model(model, tile)
    return Results(places=places, make=lambda source, target: restore(upscaler, source, target), keep=keep)


def _tell_files(evaluation: Evaluation, out: Path, pairs: Pairs, results: Results | None) -> None:
    """Tell where each result is, seen from the folder of `out`, and what it holds."""
    root = out.parent.resolve()
    for name, (path, _) in pairs.items():
        file = results.places[name] if results else path
        if file.is_file():
            evaluation.files[name] = os.path.relpath(file.resolve(), root)
            evaluation.contents[name] = _content(file)


def _content(file: Path) -> str:
    return file_hash(file).hex()[:32]


def _layers(name: str, pair: tuple[Path, Path], results: Results | None, others: OtherRuns) -> Mapping[str, Path]:
    """Choose the pictures that the report lays over each other; not those that have changed since they were scored."""
    path, truth = pair
    shown = {"input": path, "result": results.places[name]} if results else {"result": path}
    for run, file in others:
        if name not in run.evaluation.files:
            continue
        picture = file.parent / run.evaluation.files[name]
        if picture.is_file() and _content(picture) == run.evaluation.contents.get(name):
            shown[run.name] = picture
        else:
            message = "is gone, or not known to be what was scored: the report leaves it out"
            print(f"warning: {run.name}: {picture} {message}", file=sys.stderr)
    return {**shown, "truth": truth}


def _tell(runs: Sequence[Run]) -> int:
    """Print means, comparison, warnings and failures, and return the exit status."""
    evaluation = runs[0].evaluation
    print(format_table(evaluation))
    if len(runs) > 1:
        print(f"\n{format_comparison(runs)}")
        if different := other_truths(runs):
            more = f" and {len(different) - 1} more" if len(different) > 1 else ""
            message = "not in the comparison, since the runs have different truths or borders"
            print(f"warning: {different[0]}{more}: {message}", file=sys.stderr)
    for run in runs[1:]:
        for name, reason in (_lacking(evaluation, run) | run.evaluation.failures).items():
            print(f"warning: {run.name}: {name}: {reason}", file=sys.stderr)
    for kind, told in (("warning", evaluation.warnings), ("error", evaluation.failures)):
        for name, reason in told.items():
            print(f"{kind}: {name}: {reason}", file=sys.stderr)
    return 1 if evaluation.failures else 0


def _lacking(evaluation: Evaluation, other: Run) -> dict[str, str]:
    """Say which pictures of this run another has not, so that no comparison with it has them."""
    names = evaluation.images.keys() - other.evaluation.images.keys()
    return dict.fromkeys(sorted(names), "is not among its pictures, and not compared")
