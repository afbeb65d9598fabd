"""What the text of a compiled program tells: collectives, and the TPU compiler's own estimate of cycles."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*)$")
_COLLECTIVE = re.compile(
    r"^(?P<result>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
)
# What a slice receives of the others comes through its hosts.
_BETWEEN_SLICES = re.compile(r'^(?P<result>.*?) recv\(.*_xla_megascale_transfer_type="(?P<kind>\w+)"')
_OPERANDS_FIRST = ("all-gather", "collective-permute")  # in the result of an asynchronous one
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)(?:e\dm\d\w*)?\[([\d,]*)\]")
_WHILE = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CALL = re.compile(r" (?:conditional|call|async-start)\(.*")
_CALLED = re.compile(r"(?:to_apply|calls|branch_computations|true_computation|false_computation)=\{?([%\w.\-, ]+)\}?")
# The largest 64-bit number stands where the compiler has no estimate.
_CYCLES = re.compile(r'"estimated_cycles":"(\d{1,18})"')
_CONSTANT = re.compile(r"s32\[\][^ ]* constant\((\d+)\)")


@dataclass
class Costs:
    """What a program costs on one chip.

    Attributes:
        cycles: the TPU compiler's estimate, 0 elsewhere; Pallas kernels are not in it.
        collectives: kind -> (how many, bytes of their results); between TPU slices `dcn-` stands before the kind.
    """

    cycles: float = 0.0
    collectives: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, other: "Costs", times: float = 1.0) -> None:
        """Add another program's, so many times."""
        self.cycles += times * other.cycles
        for kind, (count, size) in other.collectives.items():
            old_count, old_size = self.collectives.get(kind, (0.0, 0.0))
            self.collectives[kind] = (old_count + times * count, old_size + times * size)


def costs(text: str) -> Costs:
    """Add up the entry computation's instructions; bodies of loops as often as they run."""
    computations, entry = _computations(text)
    known: dict[str, Costs] = {}

    def of(name: str) -> Costs:
        if name not in known:
            known[name] = Costs()
            for line in computations.get(name, ()):
                known[name].add(_own(line))
                for callee, times in _called(line, computations):
                    known[name].add(of(callee), times)
        return known[name]

    return of(entry)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[2]
            found[name] = []
            entry = name if match[1] else entry
        elif name and (match := _INSTRUCTION.match(line)):
            found[name].append(match[1])
    return found, entry


def _own(line: str) -> Costs:
    cycles = _CYCLES.search(line)
    result = Costs(cycles=float(cycles[1]) if cycles else 0.0)
    if match := _COLLECTIVE.match(line):
        arrays = [_bytes(*array) for array in _ARRAY.findall(match["result"]) if array[1]]
        if match["kind"] in _OPERANDS_FIRST and "-start(" in match[0]:
            arrays = arrays[len(arrays) // 2 :]
        result.collectives[match["kind"]] = (1.0, float(sum(arrays)))
    elif match := _BETWEEN_SLICES.match(line):
        arrays = [_bytes(*array) for array in _ARRAY.findall(match["result"]) if array[1]]
        result.collectives["dcn-" + match["kind"].lower().replace("_", "-")] = (1.0, float(sum(arrays)))
    return result


def _called(line: str, computations: dict[str, list[str]]) -> Iterator[tuple[str, float]]:
    if match := _WHILE.search(line):
        yield match[2], _trips(computations.get(match[1], []))
    elif _CALL.search(line):
        for names in _CALLED.findall(line):
            for name in names.split(","):
                yield name.strip().lstrip("%"), 1.0


def _trips(condition: list[str]) -> float:
    """Tell how often a loop runs: jax's loops count from 0 to a constant."""
    constants = [int(match[1]) for line in condition if (match := _CONSTANT.search(line))]
    return float(max(constants, default=1))


def _bytes(dtype: str, shape: str) -> int:
    bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
    count = 1
    for size in filter(None, shape.split(",")):
        count *= int(size)
    return count * bits // 8
