"""What people keep beside their weights is skipped, and nothing of it is run."""

import argparse
import array
import collections
import datetime
import decimal
import fractions
import pathlib
import random
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import pytest
import torch

from convert.tensors import read_tensors


def neighbours() -> dict[str, Any]:
    return {
        "a set": {1, "b"},
        "a frozen set": frozenset({1}),
        "settings": omegaconf.OmegaConf.create({"a": {"b": [1, None, "x"]}, "c": "${a.b}"}),
        "arguments": argparse.Namespace(lr=1e-4, out=pathlib.PurePosixPath("runs")),
        "a path": pathlib.Path("runs/1"),
        "a count": collections.Counter("aab"),
        "a defaultdict": collections.defaultdict(list, a=[1]),
        "an array": np.arange(6.0).reshape(2, 3),
        "an array of objects": np.array([{"a": 1}], dtype=object),
        "a number": np.float32(2),
        "random states": (np.random.get_state(), np.random.RandomState(1), np.random.default_rng(1), random.getstate()),
        "a time": datetime.datetime(2026, 1, 1),
        "a version": torch.__version__,
        "a type": int,
        "other numbers": (decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=3)),
        "a range": range(3),
        "other containers": [collections.ChainMap({}), collections.UserDict(a=1), array.array("d", [1.0])],
        "a pattern": re.compile("a+"),
        "other arrays": [np.ma.masked_array([1, 2], [0, 1]), torch.strided],
        "of torch": (torch.float16, torch.device("cpu"), torch.Size([1]), torch.get_rng_state()),
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("neighbour", neighbours())
def test_harmless_neighbours_are_inert(tmp_path: Path, neighbour: str, protocol: int, zipped: bool):
    content = {"state_dict": {"a": torch.arange(3)}, "beside": neighbours()[neighbour]}
    file = tmp_path / "a.ckpt"
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    tensors = read_tensors(file)
    assert list(tensors) == ["a"]
    np.testing.assert_array_equal(tensors["a"], np.arange(3))
    torch.save({**content["state_dict"], "beside": content["beside"]}, file)
    if not isinstance(content["beside"], list | tuple):  # those are asked about
        assert list(read_tensors(file)) == ["a"]
