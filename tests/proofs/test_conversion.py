import json
from pathlib import Path

import numpy as np
import pytest

from convert.layout import expected_shapes
from proofs.conversion import run, same_files
from proofs.full_size import SD_UNET, TVT_UNET, RandomTensor

KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"


@pytest.mark.parametrize(("config", "published"), [(SD_UNET, "sd21_unet"), (TVT_UNET, "tvt_unet")])
def test_random_checkpoints_have_the_published_tensors(config, published):
    if not KEYS.is_dir():
        pytest.skip("the lists of published tensors are not here")
    shapes = {name: list(shape) for name, shape in expected_shapes(config).items()}
    assert shapes == json.loads((KEYS / f"{published}.json").read_text())


def test_a_tensor_is_drawn_the_same_each_time():
    tensor = RandomTensor("conv.weight", (4, 3, 3, 3))
    np.testing.assert_array_equal(np.asarray(tensor), np.asarray(tensor))
    assert np.abs(tensor).max() <= 27**-0.5
    assert np.any(np.asarray(RandomTensor("other.weight", (4, 3, 3, 3))) != np.asarray(tensor))


def test_folders_are_compared_to_the_bit(tmp_path):
    for name, content in (("a", b"01"), ("b", b"01"), ("c", b"02")):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "weights").write_bytes(content)
        (tmp_path / name / "tvt.json").write_text(name)
    assert same_files(tmp_path / "a", tmp_path / "b")
    assert not same_files(tmp_path / "a", tmp_path / "c")
    (tmp_path / "b" / "more").write_bytes(b"")
    assert not same_files(tmp_path / "a", tmp_path / "b")


def test_a_command_that_fails_says_why():
    with pytest.raises(ValueError, match=r"convert inspect nothing failed:\nerror: nothing is not there"):
        run("convert", "inspect", "nothing")
