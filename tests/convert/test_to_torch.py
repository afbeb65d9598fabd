"""Out again: folders that stock diffusers loads without a word, and that come back as they were."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from convert import tvt
from convert.lora import fuse
from convert.tensors import read_safetensors
from convert.to_model import import_sd, import_tvt
from convert.to_torch import export_diffusers, export_tvt, lora_file
from convert.torch_file import read_torch
from tests.convert.small import UNET, VAE, VAE_D4, random_tensors
from tvt_jax.inference.upscaler import PRETRAINED
from tvt_jax.model_folder import ModelCard, ModelFolder, read_card, read_model, write_model
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig

FRONT = ["README.md", "model_index.json", "pipeline.py", "prompt_embedding.safetensors", "tvt.json"]
KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"
TVT_UNET = UNet2DConditionConfig(
    block_out_channels=(320, 320, 640, 1280, 1280),
    down_block_types=(*(CROSS_ATTENTION_BLOCK,) * 4, PLAIN_BLOCK),
    attention_heads=(5, 5, 10, 20, 20),
)


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


@pytest.mark.parametrize("export", [export_diffusers, export_tvt])
def test_what_is_there_is_not_replaced(model, tmp_path, export):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text(json.dumps({}))
    shutil.copytree(model, tmp_path / "other")
    for out in ("out", "out/mine.txt", "other"):
        with pytest.raises(FileExistsError, match=f"{out} is in the way"):
            export(model, tmp_path / out)


@pytest.mark.parametrize("export", [export_diffusers, export_tvt])
@pytest.mark.parametrize("place", ["", "deep/in/it", "../link"])
def test_the_model_is_left_as_it_is(model, tmp_path, export, place):
    (tmp_path / "link").symlink_to(model)
    before = contents(model)
    with pytest.raises(ValueError, match="lies within it, which stays as it is"):
        export(model, model / place)
    assert contents(model) == before


def contents(folder):
    return {
        file.relative_to(folder): sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()
    }


def test_an_export_comes_back_with_its_card_and_its_prompts(release, sd, tmp_path):
    import_tvt(release, sd, tmp_path / "model", prompt="sharp")
    export_diffusers(tmp_path / "model", tmp_path / "out")
    import_sd(tmp_path / "out", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")
    assert read_card(tmp_path / "again").smallest_side == 512
    import_sd(tmp_path / "out", tmp_path / "dull", prompt="dull")
    card = read_card(tmp_path / "dull")
    assert (card.prompt, card.posterior) == ("dull", "sample")
    import_tvt(release, sd, tmp_path / "expected", prompt="dull")
    assert contents(tmp_path / "dull").keys() == contents(tmp_path / "expected").keys()
    file = "prompt_embedding.safetensors"
    assert (tmp_path / "dull" / file).read_bytes() == (tmp_path / "expected" / file).read_bytes()


def test_a_model_without_a_text_encoder_comes_back_too(tmp_path):
    export_diffusers(PRETRAINED, tmp_path / "out")
    import_sd(tmp_path / "out", tmp_path / "again")
    ours, again = read_model(PRETRAINED), read_model(tmp_path / "again")
    assert (again.card, again.vae_config, again.unet_config) == (ours.card, ours.vae_config, ours.unet_config)
    jax.tree.map(np.testing.assert_array_equal, (again.vae, again.unet), (ours.vae, ours.unet))
    np.testing.assert_array_equal(again.prompt_embedding, ours.prompt_embedding)
    np.testing.assert_array_equal(again.negative_prompt_embedding, ours.negative_prompt_embedding)
    with pytest.raises(FileNotFoundError, match="has no tokenizer"):
        import_sd(tmp_path / "out", tmp_path / "other", prompt="another")


def test_all_of_a_stages_result_comes_back(tmp_path):
    model = ModelFolder(
        card=ModelCard(scale=2, source="a stage"),
        vae_config=VAE_D4,
        vae=tree_from_torch(random_tensors(VAE_D4)),
        vae_source_config=VAE,
        vae_source=tree_from_torch(random_tensors(VAE)),
    )
    write_model(tmp_path / "model", model)
    export_diffusers(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out" / "model_index.json").exists()
    import_sd(tmp_path / "out", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")


def test_lora_that_is_apart_stays_apart_where_a_model_folder_is_imported(sd, release, tmp_path):
    import_tvt(release, sd, tmp_path / "model", keep_lora=True)
    import_sd(tmp_path / "model", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")
    with pytest.raises(ValueError, match="stays as it is"):
        import_sd(tmp_path / "model", tmp_path / "model")


def test_middle_blocks_are_not_dropped_for_the_release(model, tmp_path):
    with pytest.raises(ValueError, match="VAE with middle blocks, and the release's has none"):
        export_tvt(model, tmp_path / "ckp")
    assert not (tmp_path / "ckp").exists()


def test_attention_within_windows_is_refused(tmp_path):
    unet = replace(UNET, attention_windows=(4, None))
    model = ModelFolder(
        card=ModelCard(),
        vae_config=VAE_D4,
        vae=tree_from_torch(random_tensors(VAE_D4)),
        unet_config=unet,
        unet=tree_from_torch(random_tensors(unet)),
    )
    write_model(tmp_path / "model", model)
    for export in (export_diffusers, export_tvt):
        with pytest.raises(ValueError, match=r"windows of \[4, None\] pixels"):
            export(tmp_path / "model", tmp_path / "out")


def test_the_releases_files_come_back_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(tvt, "VAE_D4", VAE_D4)
    vae, unet = random_tensors(VAE_D4, 1), random_tensors(UNET, 2)
    model = ModelFolder(
        card=ModelCard(),
        vae_config=VAE_D4,
        vae=tree_from_torch(vae),
        unet_config=UNET,
        unet=tree_from_torch(unet),
        prompt_embedding=np.zeros((77, 6), np.float32),
    )
    write_model(tmp_path / "model", model)
    export_tvt(tmp_path / "model", tmp_path / "ckp")
    release = tvt.read_tvt(tmp_path / "ckp")
    for read, written in ((release.vae.tensors, vae), (fuse(release.unet.tensors, release.lora), unet)):
        assert set(read) == set(written)
        for name, tensor in written.items():
            np.testing.assert_array_equal(np.asarray(read[name]), tensor)
    content = read_torch(tmp_path / "ckp" / "model_TVT.pkl")
    assert "conv_in" in content["unet_lora_encoder_modules"]
    assert "conv_out" in content["unet_lora_others_modules"]
    theirs = torch.load(tmp_path / "ckp" / "model_TVT.pkl", weights_only=True)["state_dict_unet"]
    assert all(torch.equal(theirs[name], torch.from_numpy(x.copy())) for name, x in content["state_dict_unet"].items())


def test_lora_that_was_kept_apart_goes_out_as_it_came(sd, release, tmp_path):
    import_tvt(release, sd, tmp_path / "model", keep_lora=True)
    export_tvt(tmp_path / "model", tmp_path / "again")
    came, gone = tvt.read_tvt(release), tvt.read_tvt(tmp_path / "again")
    for ours, theirs in ((gone.vae.tensors, came.vae.tensors), (gone.unet.tensors, came.unet.tensors)):
        assert set(ours) == set(theirs)
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(ours[name], tensor)
    for module, branch in gone.lora.items():
        for half in ("a", "b"):
            # Layers that had none have one of zeros: the release's program asks for it.
            expected = getattr(came.lora[module], half) if module in came.lora else 0
            np.testing.assert_array_equal(getattr(branch, half), expected)
    assert came.lora.keys() < gone.lora.keys()


def test_lora_that_was_kept_apart_is_in_the_weights_for_diffusers(sd, release, tmp_path):
    import_tvt(release, sd, tmp_path / "model", keep_lora=True)
    import_tvt(release, sd, tmp_path / "fused")
    file = "unet/diffusion_pytorch_model.safetensors"
    export_diffusers(tmp_path / "model", tmp_path / "out")
    assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "fused" / file).read_bytes()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted([*FRONT, "scheduler", "text_encoder", "tokenizer", "unet", "vae"])


def test_the_lora_file_holds_what_the_releases_does():
    if not (KEYS / "model_tvt_pkl.json").exists():
        pytest.skip("the lists of published tensors are not here")
    shapes = tensor_shapes(TVT_UNET)
    empty = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    held = {name: list(tensor.shape) for name, tensor in lora_file(empty, {})["state_dict_unet"].items()}
    assert held == json.loads((KEYS / "model_tvt_pkl.json").read_text())


def test_a_vae_alone_is_no_release(tmp_path):
    folder = ModelFolder(card=ModelCard(), vae_config=VAE_D4, vae=tree_from_torch(random_tensors(VAE_D4)))
    write_model(tmp_path / "model", folder)
    with pytest.raises(FileNotFoundError, match="model has no UNet"):
        export_tvt(tmp_path / "model", tmp_path / "ckp")
