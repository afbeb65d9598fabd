"""What diffusers' config.json may ask for: a network that is not built here is refused by the name of the field."""

from collections.abc import Collection, Mapping
from typing import Any

# A VAE's encoder may have levels of nothing; its decoder's have one layer more.
_MAY_BE_0 = ("layers_per_block",)


def require(network: str, data: Mapping[str, Any], *, lists: Collection[str], numbers: Collection[str]) -> None:
    """Check what a config must say; fields that are not named here are ignored.

    Args:
        network: diffusers' name of the class.
        data: the config.
        lists: fields that must be there, with an entry a level: a positive integer or a word.
        numbers: fields that must be there, with one positive integer for all levels; layers may be 0.

    Raises:
        ValueError: names every field that does not fit.
    """
    needed = {**dict.fromkeys(lists, "lists of numbers or words"), **dict.fromkeys(numbers, "positive integers")}
    good = [name for name in lists if _is_list(_plain(data.get(name)))]
    good += [name for name in numbers if _is_count(data.get(name), least=0 if name in _MAY_BE_0 else 1)]
    if bad := {name: data.get(name) for name in needed if name not in good}:
        expected = {name: needed[name] for name in bad}
        raise ValueError(f"the {network}'s config.json has {bad}, but here they must be {expected}")


def require_fixed(network: str, data: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Check fields that the network here has no choice in; where one is absent, it is taken to agree.

    Raises:
        ValueError: names every field that does not fit.
    """
    fixed = {"_class_name": network, **fixed}
    if bad := {name: data[name] for name, value in fixed.items() if name in data and _plain(data[name]) != value}:
        expected = {name: fixed[name] for name in bad}
        raise ValueError(f"cannot build the {network} that its config.json describes: it has {bad}, not {expected}")


def _is_count(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(x, str) or _is_count(x) for x in value)


def _plain(value: Any) -> Any:
    """Make a list of a tuple: JSON gives lists where diffusers' own configs in memory hold tuples."""
    return list(value) if isinstance(value, tuple) else value
