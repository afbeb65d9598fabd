"""The random files of OSEDiff and PiSA-SR: in the published layout at full size, and read at small size."""

import json
from pathlib import Path

import pytest

from convert.to_model import import_osediff, import_pisasr
from convert.torch_file import read_torch
from convert.verify import compare_tensors, read_networks
from proofs.rivals import write_osediff, write_pisasr
from tests.convert.conftest import sd, tensors, tokenizer  # noqa: F401
from tests.convert.small import UNET, VAE
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"


def shapes_of(content):
    states = {name: state for name, state in content.items() if name.startswith("state_dict")}
    return {name: {key: [*x.shape] for key, x in state.items()} for name, state in states.items()}


@pytest.mark.parametrize("name", ["osediff", "pisa_sr"])
def test_the_files_have_the_published_tensors(tmp_path, name):
    file = tmp_path / f"{name}.pkl"
    if name == "osediff":
        write_osediff(file, UNet2DConditionConfig(), AutoencoderKLConfig())
    else:
        write_pisasr(file, UNet2DConditionConfig())
    content = read_torch(file)
    counts = {key: len(found) for key, found in shapes_of(content).items()}
    expected = {"osediff": {"state_dict_unet": 518, "state_dict_vae": 64}, "pisa_sr": {"state_dict_unet": 1032}}
    assert counts == expected[name]
    if not KEYS.is_dir():
        pytest.skip("the lists of published tensors are not here")
    published = json.loads((KEYS / f"{name}_pkl.json").read_text())
    assert set(content) == set(published)
    assert shapes_of(content) == {key: published[key] for key in expected[name]}


def test_small_ones_are_read_and_verified(tmp_path, sd):  # noqa: F811
    write_osediff(tmp_path / "osediff.pkl", UNET, VAE)
    write_pisasr(tmp_path / "pisa_sr.pkl", UNET)
    for take_in, name in ((import_osediff, "osediff"), (import_pisasr, "pisa_sr")):
        take_in(tmp_path / f"{name}.pkl", sd, tmp_path / name)
        networks = read_networks(tmp_path / f"{name}.pkl", sd)
        assert not any(found.largest for found in compare_tensors(tmp_path / name, networks))
