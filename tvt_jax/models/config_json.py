"""What diffusers' config.json may ask for: a network that is not built here is refused by the name of the field."""

from collections.abc import Iterable, Mapping
from typing import Any


def require(
    network: str, data: Mapping[str, Any], *, fixed: Mapping[str, Any], lists: Iterable[str], numbers: Iterable[str]
) -> None:
    """Check a config before it is read; fields that are not named here are ignored.

    Args:
        network: diffusers' name of the class.
        data: the config.
        fixed: fields that the network here has no choice in; where one is absent, it is taken to agree.
        lists: fields that must be there, with an entry a level.
        numbers: fields that must be there, with one integer for all levels.

    Raises:
        ValueError: names every field that does not fit.
    """
    kinds = {**dict.fromkeys(lists, list), **dict.fromkeys(numbers, int)}
    if bad := {name: data.get(name) for name, kind in kinds.items() if not isinstance(_plain(data.get(name)), kind)}:
        needed = {name: kinds[name].__name__ for name in bad}
        raise ValueError(f"the {network}'s config.json has {bad}, but here they must be {needed}")
    fixed = {"_class_name": network, **fixed}
    if bad := {name: data[name] for name, value in fixed.items() if name in data and _plain(data[name]) != value}:
        expected = {name: fixed[name] for name in bad}
        raise ValueError(f"cannot build the {network} that its config.json describes: it has {bad}, not {expected}")


def _plain(value: Any) -> Any:
    """Make a list of a tuple: JSON gives lists where diffusers' own configs in memory hold tuples."""
    return list(value) if isinstance(value, tuple) else value
