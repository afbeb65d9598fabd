"""Out again: folders that stock diffusers loads without a word, and that come back as they were."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from convert.tensors import read_safetensors
from convert.to_model import import_sd
from convert.to_torch import export_diffusers


@pytest.fixture
def model(sd, tmp_path):
    import_sd(sd, tmp_path / "model")
    return tmp_path / "model"


def test_what_came_in_goes_out(sd, model, tensors, tmp_path):
    export_diffusers(model, tmp_path / "out")
    for part, expected in tensors.items():
        (file,) = (tmp_path / "out" / part).glob("*.safetensors")
        written = read_safetensors(file)
        assert set(written) == set(expected)
        for name, tensor in expected.items():
            np.testing.assert_array_equal(written[name], tensor)
    import_sd(tmp_path / "out", tmp_path / "again")
    files = {file.relative_to(model) for file in model.rglob("*") if file.is_file()}
    for file in files:
        if file.name != "tvt.json":
            assert (tmp_path / "again" / file).read_bytes() == (model / file).read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("part", "network"), [("vae", AutoencoderKL), ("unet", UNet2DConditionModel)])
def test_stock_diffusers_loads_it_strictly(model, tensors, tmp_path, part, network, dtype):
    export_diffusers(model, tmp_path / "out", dtype)
    torch_dtype = getattr(torch, dtype)
    loaded, report = network.from_pretrained(tmp_path / "out" / part, output_loading_info=True, torch_dtype=torch_dtype)
    assert not any(report.values()), report
    for name, tensor in loaded.state_dict().items():
        expected = torch.from_numpy(tensors[part][name]).to(torch_dtype)
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)


def test_only_a_model_folder_is_exported(sd, tmp_path):
    with pytest.raises(FileNotFoundError, match="sd is not a model folder"):
        export_diffusers(sd, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_not_replaced(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text(json.dumps({}))
    with pytest.raises(FileExistsError, match="out is in the way"):
        export_diffusers(model, tmp_path / "out")
