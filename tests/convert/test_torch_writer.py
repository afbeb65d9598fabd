import ml_dtypes
import numpy as np
import pytest
import torch

from convert.torch_file import read_torch
from convert.torch_writer import write_torch


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_torch_loads_what_is_written(tmp_path, shape, dtype):
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    content = {
        "state_dict": {"a.weight": array, "b.weight": np.asarray(array + array)},
        "rank_unet": 4,
        "names": ["x", "y"],
    }
    write_torch(tmp_path / "a.ckpt", content)
    loaded = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert loaded["rank_unet"] == 4
    assert loaded["names"] == ["x", "y"]
    for name, expected in content["state_dict"].items():
        tensor = loaded["state_dict"][name]
        assert tensor.shape == shape
        np.testing.assert_array_equal(tensor.float().numpy(), np.asarray(expected, np.float32))
    ours = read_torch(tmp_path / "a.ckpt")["state_dict"]
    assert all(np.array_equal(ours[name], content["state_dict"][name]) for name in ours)


def test_views_are_written_as_they_look(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    write_torch(tmp_path / "a.pt", {"a": array})
    np.testing.assert_array_equal(torch.load(tmp_path / "a.pt")["a"].numpy(), array)
