import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL as ReferenceVAE
from diffusers import UNet2DConditionModel as ReferenceUNet
from flax.traverse_util import flatten_dict

from tests.models.torch_reference import arrays, assert_close, quick_jit, random_params
from tvt_jax import model_folder
from tvt_jax.model_folder import ModelCard, ModelFolder, count_parameters, read_card, read_model, write_model
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig

VAE_D4 = AutoencoderKLConfig(block_out_channels=(4, 8, 8), norm_num_groups=4, layers_per_block=1, mid_block=False)
VAE_D8 = AutoencoderKLConfig(block_out_channels=(4, 4, 8, 8), norm_num_groups=4, layers_per_block=1)
UNET = UNet2DConditionConfig(
    block_out_channels=(4, 8),
    down_block_types=(CROSS_ATTENTION_BLOCK, PLAIN_BLOCK),
    attention_heads=(2, 2),
    layers_per_block=1,
    cross_attention_dim=6,
    norm_num_groups=4,
    attention_windows=(8, None),
)
CARD = ModelCard(
    scale=2, time_step=3, posterior="sample", color_fix="none", prompt="schön", licence="CC0", source="a test"
)
IMAGE, LATENT, TEXT = arrays((1, 16, 16, 3), (1, 7, 5, 4), (1, 3, 6))


@pytest.fixture(scope="module")
def model() -> ModelFolder:
    return ModelFolder(
        card=CARD,
        vae_config=VAE_D4,
        vae=random_params(AutoencoderKL(VAE_D4), IMAGE),
        unet_config=UNET,
        unet=random_params(UNet2DConditionModel(UNET), LATENT, jnp.zeros(1, int), TEXT),
        vae_source_config=VAE_D8,
        vae_source=random_params(AutoencoderKL(VAE_D8), IMAGE),
        prompt_embedding=TEXT[0],
        negative_prompt_embedding=-TEXT[0],
    )


@pytest.fixture(scope="module")
def folder(model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    write_model(path, model)
    return path


def assert_same(actual: dict, expected: dict) -> None:
    actual, expected = flatten_dict(actual, sep="/"), flatten_dict(expected, sep="/")
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == np.float32
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def test_reads_what_was_written(model: ModelFolder, folder: Path):
    read = read_model(folder)
    for field in ("card", "vae_config", "unet_config", "vae_source_config"):
        assert getattr(read, field) == getattr(model, field)
    for field in ("vae", "unet", "vae_source"):
        assert_same(getattr(read, field), getattr(model, field))
    np.testing.assert_array_equal(read.prompt_embedding, TEXT[0])
    np.testing.assert_array_equal(read.negative_prompt_embedding, -TEXT[0])
    assert sorted(file.name for file in folder.parent.iterdir()) == ["model"]


def test_parts_may_be_absent(model: ModelFolder, tmp_path: Path):
    write_model(tmp_path / "vae-only", ModelFolder(card=CARD, vae_config=VAE_D8, vae=model.vae_source))
    read = read_model(tmp_path / "vae-only")
    assert read.vae_config.mid_block
    assert (read.unet, read.unet_config, read.vae_source, read.prompt_embedding) == (None,) * 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_to_float32(model: ModelFolder, tmp_path: Path, dtype: str):
    write_model(tmp_path / "model", model, dtype)
    numpy_dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    assert_same(
        read_model(tmp_path / "model").vae, jax.tree.map(lambda x: x.astype(numpy_dtype).astype(np.float32), model.vae)
    )


@pytest.mark.parametrize("part", ["vae", "vae_source"])
def test_stock_diffusers_runs_the_vae(model: ModelFolder, folder: Path, part: str):
    config = getattr(model, f"{part}_config")
    reference, info = ReferenceVAE.from_pretrained(folder / part, output_loading_info=True)
    assert not any(info.values()), info
    expected = reference(torch.tensor(IMAGE).permute(0, 3, 1, 2), sample_posterior=False).sample
    actual = quick_jit(AutoencoderKL(config).apply)({"params": getattr(model, part)}, IMAGE)
    assert_close(actual, expected.detach().permute(0, 2, 3, 1).numpy(), 1e-4)


def test_stock_diffusers_runs_the_unet(model: ModelFolder, folder: Path):
    reference, info = ReferenceUNet.from_pretrained(folder / "unet", output_loading_info=True)
    assert not any(info.values()), info
    expected = reference(torch.tensor(LATENT).permute(0, 3, 1, 2), torch.tensor([1]), torch.tensor(TEXT)).sample
    actual = quick_jit(UNet2DConditionModel(UNET).apply)({"params": model.unet}, LATENT, jnp.ones(1, int), TEXT)
    assert_close(actual, expected.detach().permute(0, 2, 3, 1).numpy(), 1e-4)


def test_reads_what_diffusers_saves(folder: Path, model: ModelFolder, tmp_path: Path):
    write_model(tmp_path / "model", ModelFolder(card=CARD, vae_config=VAE_D4, vae=model.vae))
    ReferenceVAE.from_pretrained(folder / "vae").save_pretrained(tmp_path / "model" / "vae")
    read = read_model(tmp_path / "model")
    assert read.vae_config == VAE_D4
    assert_same(read.vae, model.vae)


def test_a_cpu_takes_over_the_weights_that_were_read(folder: Path):
    """A second copy of a large UNet would be 3.5 GB."""
    (cpu,) = jax.devices("cpu")[:1]
    for leaf in jax.tree.leaves(read_model(folder).unet):
        assert jax.device_put(leaf, cpu).unsafe_buffer_pointer() == leaf.ctypes.data


def test_a_middle_block_without_attention_is_told_from_none(tmp_path: Path):
    config = dataclasses.replace(VAE_D4, mid_block=True, mid_block_add_attention=False)
    params = random_params(AutoencoderKL(config), IMAGE)
    write_model(tmp_path / "model", ModelFolder(card=CARD, vae_config=config, vae=params))
    read = read_model(tmp_path / "model")
    assert read.vae_config == config
    assert_same(read.vae, params)


def test_a_failed_write_leaves_the_old_model(folder: Path, model: ModelFolder, monkeypatch: pytest.MonkeyPatch):
    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(model_folder, "write_tensors", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_model(folder, dataclasses.replace(model, card=ModelCard()))
    assert read_model(folder).card == CARD
    assert sorted(file.name for file in folder.parent.iterdir()) == ["model"]


def test_a_new_model_replaces_the_old_one_whole(model: ModelFolder, tmp_path: Path):
    path = tmp_path / "model"
    write_model(path, model)
    write_model(path, ModelFolder(card=ModelCard(), vae_config=VAE_D4, vae=model.vae))
    assert read_model(path).unet is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize(
    "odd",
    [
        *({"time_step": 1000}, {"time_step": "1"}, {"scale": 0}, {"scale": True}, {"smallest_side": -1}),
        *({"prompt": None}, {"prediction": "v"}, {"posterior": "mode"}, {"color_fix": ["adain"]}),
    ],
)
def test_a_card_of_odd_values_is_refused(tmp_path: Path, odd: dict):
    (tmp_path / "tvt.json").write_text(json.dumps(dataclasses.asdict(CARD) | odd))
    with pytest.raises(ValueError, match=f"tvt.json has {re.escape(str(odd))}: these are no values"):
        read_card(tmp_path)


def test_does_not_replace_what_is_not_a_model(model: ModelFolder, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    for path in (tmp_path / "photos", tmp_path / "photos" / "mine.jpg"):
        with pytest.raises(FileExistsError, match=r"is in the way: it has no tvt\.json in it"):
            write_model(path, model)
    assert (tmp_path / "photos" / "mine.jpg").exists()


def test_says_what_is_missing(model: ModelFolder, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"is not a model folder, having no tvt\.json"):
        read_model(tmp_path)
    write_model(tmp_path / "model", model)
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=f"{weights} is missing"):
        read_model(tmp_path / "model")


def test_names_fields_of_the_card_that_it_does_not_know(model: ModelFolder, tmp_path: Path):
    write_model(tmp_path / "model", model)
    card = tmp_path / "model" / "tvt.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "colour": 1}))
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        read_model(tmp_path / "model")


def test_counts_parameters():
    assert count_parameters({"conv": {"kernel": np.zeros((3, 3, 2, 4)), "bias": np.zeros(4)}}) == 76


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_a_configuration_that_is_refused_names_its_file(model: ModelFolder, tmp_path: Path, part: str):
    write_model(tmp_path / "model", model)
    file = tmp_path / "model" / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"act_fn": "gelu"}))
    with pytest.raises(ValueError, match=rf"{part}.config\.json: cannot build .*'gelu'"):
        read_model(tmp_path / "model")
