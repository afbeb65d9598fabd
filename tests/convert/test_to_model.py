"""Checkpoints in the forms they are found in, at small size, into model folders: every tensor to the bit."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import PeftModel
from safetensors.numpy import load_file

from convert.to_model import NEGATIVE_PROMPT, import_sd, import_tvt
from convert.to_torch import export_tvt
from tests.convert.small import UNET, VAE, VAE_D4, random_tensors, save
from tvt_jax.inference.prompt import with_prompt
from tvt_jax.model_folder import read_model
from tvt_jax.models.keys import tree_to_torch


def save_sharded(folder, stem, tensors):
    names = sorted(tensors)
    shards = {f"{stem}-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, held in shards.items():
        save(folder / shard, {name: tensors[name] for name in held})
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def with_old_attention(tensors):
    """The VAE's, as diffusers wrote them before 0.18: other names, and 1x1 convolutions."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in tensors.items():
        for new, before in old.items():
            if f"attentions.0.{new}." in name:
                name = name.replace(new, before)
                tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
        renamed[name] = tensor
    return renamed


def assert_same(params, tensors):
    actual = tree_to_torch(params)
    assert set(actual) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(actual[name], tensor, err_msg=name)


@pytest.mark.parametrize("form", ["safetensors", "fp16", "bin", "sharded", "old attention"])
def test_stable_diffusion_in_every_form(sd, tensors, tmp_path, form):
    folder, stem = sd / "vae", "diffusion_pytorch_model"
    written = folder / f"{stem}.safetensors"
    match form:
        case "fp16":
            written.unlink()
            save(folder / f"{stem}.fp16.safetensors", tensors["vae"], np.float16)
        case "bin":
            written.unlink()
            save(folder / f"{stem}.bin", tensors["vae"])
        case "sharded":
            written.unlink()
            save_sharded(folder, stem, tensors["vae"])
        case "old attention":
            save(written, with_old_attention(tensors["vae"]))
    import_sd(sd, tmp_path / "model")
    model = read_model(tmp_path / "model")
    assert (model.vae_config, model.unet_config) == (VAE, UNET)
    assert_same(model.vae, tensors["vae"])
    assert_same(model.unet, tensors["unet"])
    assert model.prompt_embedding.shape == model.negative_prompt_embedding.shape == (77, 6)
    assert np.abs(model.prompt_embedding - model.negative_prompt_embedding).max() > 0.1


def test_a_bad_part_leaves_nothing(sd, tensors, tmp_path):
    del tensors["unet"]["conv_in.bias"]
    save(sd / "unet" / "diffusion_pytorch_model.safetensors", tensors["unet"])
    with pytest.raises(ValueError, match=r"sd/unet does not hold this network: 1 missing: conv_in\.bias"):
        import_sd(sd, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_checkpoint_without_a_tokenizer_needs_one(sd, tokenizer, tmp_path):
    moved = tokenizer.rename(tmp_path / "tokenizer")
    with pytest.raises(FileNotFoundError, match="no tokenizer: give the folder of one with --tokenizer"):
        import_sd(sd, tmp_path / "model")
    import_sd(sd, tmp_path / "model", tokenizer=moved)
    assert (tmp_path / "model" / "tokenizer" / "vocab.json").is_file()


def test_the_release_is_fused(sd, release, tmp_path):
    import_tvt(release, sd, tmp_path / "model")
    model = read_model(tmp_path / "model")
    assert_same(model.vae, random_tensors(VAE_D4, 2))
    lora = torch.load(release / "model_TVT.pkl")["state_dict_unet"]
    base, expected = random_tensors(UNET, 1), tree_to_torch(model.unet)
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    a, b = (lora[f"{query}.lora_{x}.default_others.weight"].double().numpy() for x in "AB")
    np.testing.assert_allclose(expected.pop(f"{query}.weight"), base.pop(f"{query}.weight") + 2 * b @ a, atol=1e-5)
    a, b = (lora[f"conv_in.lora_{x}.default_encoder.weight"].double() for x in "AB")
    delta = 2 * torch.einsum("or,rikl->oikl", b[..., 0, 0], a)
    fused = lora["conv_in.base_layer.weight"] + delta
    np.testing.assert_allclose(expected.pop("conv_in.weight"), fused, atol=1e-5)
    np.testing.assert_array_equal(expected.pop("conv_in.bias"), lora["conv_in.base_layer.bias"])
    del base["conv_in.weight"], base["conv_in.bias"]
    for name, tensor in base.items():
        np.testing.assert_array_equal(expected[name], tensor)


def test_lora_is_kept_apart_on_demand(sd, release, tmp_path):
    import_tvt(release, sd, tmp_path / "fused")
    import_tvt(release, sd, tmp_path / "model", keep_lora=True)
    fused, model = (tree_to_torch(read_model(tmp_path / name).unet) for name in ("fused", "model"))
    assert set(fused) == set(model)
    for name, tensor in fused.items():
        np.testing.assert_allclose(model[name], tensor, atol=1e-5)  # The same sum, in another order.
    held = load_file(tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    np.testing.assert_array_equal(held[query], random_tensors(UNET, 1)[query])


def test_peft_loads_the_lora_that_is_kept(sd, release, tmp_path):
    import_tvt(release, sd, tmp_path / "model", keep_lora=True)
    import_tvt(release, sd, tmp_path / "fused")
    x, text = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 6)
    plain, fused = (UNet2DConditionModel.from_pretrained(tmp_path / name / "unet") for name in ("model", "fused"))
    with torch.no_grad():
        without = plain(x, 1, text).sample
        adapted = PeftModel.from_pretrained(plain, tmp_path / "model" / "unet_lora")
        ours, theirs = (network(x, 1, text).sample for network in (fused, adapted))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert (ours - without).abs().max() > 0.1


def test_the_release_needs_only_the_text_encoder_of_stable_diffusion(sd, release, tmp_path):
    for part in ("vae", "unet"):
        shutil.rmtree(sd / part)
    import_tvt(release, sd, tmp_path / "model")
    model = read_model(tmp_path / "model")
    assert model.prompt_embedding.shape == (77, 6)
    # What the release's own program does to a picture, as far as a card says it.
    card = {"scale": 4, "smallest_side": 512, "time_step": 1, "posterior": "sample", "color_fix": "adain"}
    assert {name: getattr(model.card, name) for name in card} == card


@pytest.mark.parametrize("missing", ["vae.ckpt", "model_TVT.pkl"])
def test_an_incomplete_release_is_refused(sd, release, tmp_path, missing):
    (release / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"{missing} is missing"):
        import_tvt(release, sd, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_rank_must_be_what_the_file_says(sd, release, tmp_path):
    content = torch.load(release / "model_TVT.pkl")
    torch.save(content | {"rank_unet": 8}, release / "model_TVT.pkl")
    with pytest.raises(ValueError, match=r"says that its LoRA has rank 8, but holds ranks \[4\]"):
        import_tvt(release, sd, tmp_path / "model")


def test_another_prompt_is_encoded_by_the_folders_own_text_encoder(sd, tmp_path):
    import_sd(sd, tmp_path / "model", prompt="sharp")
    with pytest.warns(UserWarning, match="longer than 77 tokens"):  # the tests' vocabulary has few words
        other = with_prompt(read_model(tmp_path / "model"), tmp_path / "model", NEGATIVE_PROMPT)
    assert other.card.prompt == NEGATIVE_PROMPT
    # Alone and beside another prompt it is encoded by two programs, which may add in another order: a few float32
    # roundings of values about 1.
    np.testing.assert_allclose(other.prompt_embedding, other.negative_prompt_embedding, rtol=0, atol=2e-6)


def test_alpha_is_the_files_where_it_is_there(sd, release, tmp_path):
    content = torch.load(release / "model_TVT.pkl")
    torch.save(content | {"lora_alpha": 16}, release / "model_TVT.pkl")
    import_tvt(release, sd, tmp_path / "model")
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    lora = content["state_dict_unet"]
    a, b = (lora[f"{query}.lora_{x}.default_others.weight"].double().numpy() for x in "AB")
    actual = tree_to_torch(read_model(tmp_path / "model").unet)[f"{query}.weight"]
    np.testing.assert_allclose(actual, random_tensors(UNET, 1)[f"{query}.weight"] + 4 * b @ a, atol=1e-5)
    # Out again, to a program that takes alpha to be 8.
    import_tvt(release, sd, tmp_path / "apart", keep_lora=True)
    export_tvt(tmp_path / "apart", tmp_path / "out")
    again = torch.load(tmp_path / "out" / "model_TVT.pkl")["state_dict_unet"]
    np.testing.assert_array_equal(again[f"{query}.lora_B.default_others.weight"], 2 * b.astype(np.float32))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"lora_alpha": -1}, "has the lora_alpha -1, which is no number above 0"),
        ({"lora_alpha": "8"}, "has the lora_alpha '8', which is no number above 0"),
        ({"lora_alpha": torch.tensor(16)}, "has the lora_alpha an array of int64, which is no number"),
        # What is not known may change the LoRA, also where its name does not say so.
        ({"use_rslora": True}, "has 'use_rslora', which is not known of the TVT release's file"),
        ({"rank_pattern": {"conv_in": 8}}, "has 'rank_pattern', which is not known"),
        ({"lora_alpha_unet": 16}, "has 'lora_alpha_unet', which is not known"),
        ({"config": {"lora_alpha": 16}}, "has 'config', which is not known"),
        ({"scaling": 3.0, "step": torch.ones(3)}, "has 'scaling, step', which is not known"),
        ({"state_dict_unet": [1]}, "holds a list as"),
        ({"rank_unet": [4]}, "says that its LoRA has rank [4], but holds ranks [4]"),
        ({"rank_unet": torch.ones(2)}, "says that its LoRA has rank an array of float32, but holds ranks [4]"),
    ],
)
def test_lora_of_another_kind_is_refused(sd, release, tmp_path, changed, says):
    torch.save(torch.load(release / "model_TVT.pkl") | changed, release / "model_TVT.pkl")
    with pytest.raises(ValueError, match=re.escape(f"model_TVT.pkl {says}")):
        import_tvt(release, sd, tmp_path / "model")


@pytest.mark.parametrize(
    ("half", "tensor", "says"),
    [
        ("A", torch.tensor(1.0), "that is float32 of shape (): it is damaged"),
        ("B", torch.ones(8), "that is float32 of shape (8,): it is damaged"),
        ("A", torch.ones(4, 8, dtype=torch.int32), "that is int32 of shape (4, 8): it is damaged"),
        ("B", torch.ones(8, 4, dtype=torch.bool), "that is bool of shape (8, 4): it is damaged"),
    ],
)
def test_lora_that_is_no_matrix_of_numbers_is_refused(sd, release, tmp_path, half, tensor, says):
    content = torch.load(release / "model_TVT.pkl")
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    content["state_dict_unet"][f"{query}.lora_{half}.default_others.weight"] = tensor
    torch.save(content, release / "model_TVT.pkl")
    with pytest.raises(ValueError, match=re.escape(f"model_TVT.pkl has LoRA of {query} {says}")):
        import_tvt(release, sd, tmp_path / "model")
