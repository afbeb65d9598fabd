"""What three generations of diffusers, transformers and PEFT wrote: `proofs.conversion_versions --keep` made it."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from convert.sd import StableDiffusion
from convert.tensors import read_safetensors
from convert.tvt import read_tvt
from proofs.conversion_versions import ENVIRONMENTS, PROMPT, differences, import_form, small_release
from tvt_jax.tokenizer import Tokenizer

FILES = Path(__file__).parent / "files"
FORMS = [
    *("safetensors", "bin", "fp16", "fp16 bin", "shards", "fp16 shards", "shards of bin", "each part by itself"),
    *("wrapped", "with projection"),
]


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with tarfile.open(FILES / f"{request.param}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_the_files_are_of_the_versions_they_are_called_by(written):
    versions = json.loads((written / "versions.json").read_text())
    (expected,) = [v for k, v in {"0.25": "4.36", "0.35": "4.57", "0.42": "5.24"}.items() if k in versions["diffusers"]]
    assert versions["transformers"].startswith(expected)
    assert versions["forms"] == dict.fromkeys(FORMS, "written")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_weights(written, form):
    plain, other = StableDiffusion(written / "safetensors"), StableDiffusion(written / form)
    for part in ("vae", "unet", "text_encoder"):
        expected, read = getattr(plain, part), getattr(other, part)
        assert read.config == expected.config and read.tensors.keys() == expected.tensors.keys()
        for name, tensor in expected.tensors.items():
            np.testing.assert_array_equal(read.tensors[name], tensor, err_msg=name)
    assert other.notes == []
    with np.load(written / "results.npz") as results:
        np.testing.assert_array_equal(Tokenizer(other.tokenizer)(PROMPT)[0], results["tokens"])


@pytest.mark.parametrize("form", ["safetensors", "release"])
def test_results_are_those_that_were_computed_there(written, form, tmp_path):
    # float32 in both, and sums in another order: 2.1e-7 was measured; results are of size 0.1 to 1.
    found = differences(tmp_path / "model", import_form(written, form, tmp_path / "model"))
    assert len(found) == (5 if form == "safetensors" else 3)
    assert max(found.values()) < 2e-6, found


def test_lora_is_pefts(written):
    with small_release():
        release = read_tvt(written / "release")
    assert {branch.scale for branch in release.lora.values()} == {2.0}
    assert sorted({module.rpartition(".")[2] for module in release.lora}) == ["conv_in", "to_q", "to_v"]
    plain = read_safetensors(written / "release" / "TVTUNet" / "unet" / "diffusion_pytorch_model.safetensors")
    np.testing.assert_array_equal(release.unet.tensors["conv_in.weight"], plain["conv_in.weight"])


def test_the_files_are_small():
    assert sum(file.stat().st_size for file in FILES.iterdir()) < 1_000_000
