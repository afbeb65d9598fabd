"""OSEDiff and PiSA-SR imported, against diffusers and PEFT; files that are not theirs are refused."""

import re

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

import tvt_jax
from convert.__main__ import main
from convert.adapters import layers_of
from convert.to_model import import_osediff, import_pisasr
from convert.to_torch import export_diffusers
from convert.verify import compare_outputs, compare_tensors, read_networks
from tests.convert.adapted import osediff, pisasr, use
from tvt_jax.diffusion import NoiseSchedule, restore_latent
from tvt_jax.model_folder import read_card, read_model
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

# float32 on both sides, and sums in another order, which random weights make more of: 4.6e-5 at most was measured.
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture
def x():
    rows, columns = np.mgrid[:32, :48] / 48
    return np.stack([rows, columns, np.sin(20 * rows * columns)], axis=-1)[None].astype(np.float32) * 2 - 1


def torch_restore(vae, predict, x, alpha=None):
    """The whole restoration from the posterior's mean: by the noise, with the share `alpha`, or by the residual."""
    with torch.no_grad():
        z = vae.encode(torch.from_numpy(x.transpose(0, 3, 1, 2))).latent_dist.mean * vae.config.scaling_factor
        predicted = predict(z)
        clean = z - predicted if alpha is None else (z - (1 - alpha) ** 0.5 * predicted) / alpha**0.5
        image = vae.decode(clean / vae.config.scaling_factor).sample.clip(-1, 1)
    return predicted.permute(0, 2, 3, 1).numpy(), image.permute(0, 2, 3, 1).numpy()


def ours(upscaler, x):
    """The same by our networks, without the padding of `restore`."""
    z = upscaler.vae.to_latent(x)
    clean = restore_latent(z, upscaler.unet, *upscaler.card.step)
    predicted = upscaler.unet(z, np.array([upscaler.card.time_step]))
    return np.asarray(predicted), np.asarray(upscaler.vae.to_image(clean)).clip(-1, 1)


def text_of(path):
    return torch.from_numpy(read_model(path, ()).prompt_embedding)[None]


def assert_close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


def test_osediff_restores_as_diffusers_and_peft_do(sd, x, tmp_path):
    vae, unet = osediff(sd, tmp_path / "osediff.pkl")
    import_osediff(tmp_path / "osediff.pkl", sd, tmp_path / "model")
    text, alpha = text_of(tmp_path / "model"), float(NoiseSchedule().alphas_cumprod[999])
    theirs = torch_restore(vae, lambda z: unet(z, 999, text).sample, x, alpha)
    assert_close(ours(tvt_jax.load(tmp_path / "model"), x), theirs)
    assert theirs[1].std() > 0.1
    # Out again, to stock diffusers without PEFT.
    export_diffusers(tmp_path / "model", tmp_path / "out")
    plain = AutoencoderKL.from_pretrained(tmp_path / "out" / "vae")
    fused = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    assert_close(torch_restore(plain, lambda z: fused(z, 999, text).sample, x, alpha), theirs)


def test_pisasr_restores_as_diffusers_and_peft_do(sd, x, photo, tmp_path):
    vae, unet = pisasr(sd, tmp_path / "pisa_sr.pkl")
    import_pisasr(tmp_path / "pisa_sr.pkl", sd, tmp_path / "model")
    text = text_of(tmp_path / "model")
    theirs = torch_restore(vae, lambda z: use(unet, "pix", "sem")(z, 1, text).sample, x)
    assert_close(ours(tvt_jax.load(tmp_path / "model"), x), theirs)
    assert theirs[1].std() > 0.1
    export_diffusers(tmp_path / "model", tmp_path / "out")
    fused = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    assert_close(torch_restore(vae, lambda z: fused(z, 1, text).sample, x), theirs)
    for difference in compare_outputs(tmp_path / "model", read_networks(tmp_path / "out"), photo, 32):
        assert difference.relative < 1e-4, difference


@pytest.mark.parametrize(("pixel", "semantic"), [(1.0, 0.0), (0.6, 1.7)])
def test_pisasrs_knobs_scale_what_the_adapters_give(sd, x, tmp_path, pixel, semantic):
    vae, unet = pisasr(sd, tmp_path / "pisa_sr.pkl")
    import_pisasr(tmp_path / "pisa_sr.pkl", sd, tmp_path / "model")
    text = text_of(tmp_path / "model")

    def predict(z):
        plain = use(unet, "pix")(z, 1, text).sample
        return pixel * plain + semantic * (use(unet, "pix", "sem")(z, 1, text).sample - plain)

    upscaler = tvt_jax.load(tmp_path / "model", strength_pixel=pixel, strength_semantic=semantic)
    theirs = torch_restore(vae, predict, x)
    assert_close(ours(upscaler, x), theirs)
    one_pass = ours(tvt_jax.load(tmp_path / "model"), x)
    assert np.abs(one_pass[1] - theirs[1]).max() > 0.01


def test_cards_say_how_both_are_run(sd, tmp_path):
    osediff(sd, tmp_path / "o.pkl")
    pisasr(sd, tmp_path / "p.pkl")
    for option, name in (("--osediff", "o"), ("--pisasr", "p")):
        words = ["import", option, tmp_path / f"{name}.pkl", "--sd", sd, "--out", tmp_path / name]
        assert main([*map(str, words)]) == 0
    common = {"scale": 4, "smallest_side": 512, "posterior": "sample", "color_fix": "adain"}
    for name, own in (
        ("o", {"time_step": 999, "prediction": "noise", "prompt": ","}),
        ("p", {"time_step": 1, "prediction": "residual", "prompt": ""}),
    ):
        card = read_card(tmp_path / name)
        assert {key: getattr(card, key) for key in common | own} == common | own


def test_a_look_inside_names_both(sd, tmp_path, capsys):
    osediff(sd, tmp_path / "o.pkl")
    pisasr(sd, tmp_path / "p.pkl")
    for name, says in (("o", "OSEDiff's file: import it with --osediff"), ("p", "PiSA-SR's file: import it with --p")):
        assert main(["inspect", str(tmp_path / f"{name}.pkl")]) == 0
        printed = capsys.readouterr().out
        assert says in printed and "conv_out.lora_B.default_decoder" in printed
        assert ("quant_conv.lora_A" in printed) == (name == "o")


def test_at_full_size_as_many_layers_as_published_have_lora():
    vae, unet = tensor_shapes(AutoencoderKLConfig()), tensor_shapes(UNet2DConditionConfig())
    assert len(layers_of(unet)) == 258 and len(layers_of(vae, ("encoder.", "quant_conv."))) == 32


def verified(capsys, *words):
    """The exit status, and what was compared with its largest difference."""
    status = main(["verify", *map(str, words)])
    told = [line.partition(": largest difference ") for line in capsys.readouterr().out.splitlines()]
    return status, {what.rpartition(", ")[0] or what: float(figure.split(",")[0]) for what, _, figure in told if figure}


METHODS = [(osediff, import_osediff, ("vae", "unet")), (pisasr, import_pisasr, ("vae", "unet", "unet_lora"))]


@pytest.mark.parametrize(("write", "take_in", "parts"), METHODS, ids=["osediff", "pisasr"])
def test_verify_compares_every_tensor(sd, capsys, tmp_path, write, take_in, parts):
    file, model = tmp_path / "file.pkl", tmp_path / "model"
    write(sd, file)
    take_in(file, sd, model)
    words = ("--model", model, "--reference", file, "--sd", sd)
    status, found = verified(capsys, *words)
    assert status == 0 and set(found.values()) == {0.0}
    assert [name.split(", ")[0] for name in found] == [*parts]
    # One number of the file's last LoRA is another.
    content = torch.load(file)
    tensors = content["state_dict_unet"]
    name = [name for name in tensors if "lora_B" in name][-1]
    tensors[name].view(-1)[0] += 0.25
    torch.save(content, file)
    status, found = verified(capsys, *words)
    *others, changed = found.values()
    assert status == 1 and set(others) == {0.0} and changed > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("write", "take_in", "parts"), METHODS, ids=["osediff", "pisasr"])
def test_verify_compares_with_what_peft_makes_of_a_photo(sd, photo, capsys, tmp_path, write, take_in, parts):
    file, model = tmp_path / "file.pkl", tmp_path / "model"
    write(sd, file)
    take_in(file, sd, model)
    words = ("--model", model, "--reference", file, "--sd", sd, "--photo", photo, "--side", 32)
    status, found = verified(capsys, *words)
    assert status == 0
    assert list(found)[len(parts) :] == ["encode", "unet", "decode", "restoration", "text encoder"]


def test_verify_counts_the_tensors_of_both_networks(sd, tmp_path):
    osediff(sd, tmp_path / "o.pkl")
    import_osediff(tmp_path / "o.pkl", sd, tmp_path / "model")
    folder = read_model(tmp_path / "model")
    for network, held in (("vae", folder.vae_config), ("unet", folder.unet_config)):
        (told,) = [
            difference.what
            for difference in compare_tensors(tmp_path / "model", read_networks(tmp_path / "o.pkl", sd))
            if difference.what.startswith(f"{network}, ")
        ]
        assert told.startswith(f"{network}, {len(tensor_shapes(held))} tensors, ")


def test_verify_says_what_it_needs(sd, tmp_path):
    osediff(sd, tmp_path / "o.pkl")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pkl")
    for reference, base, says in (
        ("o.pkl", None, r"o\.pkl adapts Stable Diffusion: name that too, with --sd"),
        ("other.pkl", sd, r"other\.pkl is neither the file of OSEDiff nor of PiSA-SR"),
        ("sd", sd, "--sd goes with the file of OSEDiff or PiSA-SR"),
    ):
        with pytest.raises(ValueError, match=says):
            read_networks(tmp_path / reference, base)


def in_unet(change):
    """Change the UNet's state dict alone."""
    return lambda content: {**content, "state_dict_unet": change(content["state_dict_unet"])}


def without(start):
    return in_unet(lambda tensors: {name: x for name, x in tensors.items() if not name.startswith(start)})


def renamed(old, new):
    return in_unet(lambda tensors: {name.replace(old, new): x for name, x in tensors.items()})


def added(name, shape):
    return in_unet(lambda tensors: {**tensors, name: torch.zeros(shape)})


def assert_refused(read, file, out, bad):
    good = torch.load(file)
    for change, says in bad:
        torch.save(change(good), file)
        with pytest.raises(ValueError, match=says):
            read()
        assert not out.exists()


def test_what_is_not_osediffs_is_refused(sd, tmp_path):
    file, out = tmp_path / "osediff.pkl", tmp_path / "model"
    osediff(sd, file)
    bad = [
        (lambda content: {**content, "rank_unet": 8}, r"says that its LoRA has rank 8, but holds ranks \[4\]"),
        (lambda content: {**content, "lora_alpha": 4}, "has 'lora_alpha', which is not known of OSEDiff's file"),
        (lambda content: content["state_dict_vae"], "is not the file of OSEDiff: it has no rank_unet, rank_vae, "),
        (lambda content: {**content, "state_dict_vae": {}}, "says that its LoRA has rank 4, but holds ranks"),
        (lambda content: {**content, "state_dict_unet": [1]}, "does not hold its tensors in a dict by name"),
        (lambda content: {**content, "rank_unet": [4]}, r"says that its LoRA has rank \[4\], but holds ranks \[4\]"),
        (without("conv_in.lora_B.default_encoder"), "has LoRA of conv_in that is not one A and one B"),
        (added("conv_in.lora_B.default_encoder.weight", ()), r"has LoRA of conv_in that is float32 of shape \(\): it"),
        (without("conv_in.base_layer.bias"), r"holds conv_in\.weight whole, not conv_in\.weight and conv_in\.bias"),
        (without("conv_out.lora"), "lacks LoRA on conv_out"),
        (renamed("default_decoder", "default_face"), "has the unknown adapter 'default_face'"),
        (renamed("conv_in.base_layer.bias", "conv_in.gain"), r"holds conv_in\.gain, conv_in\.weight whole"),
        (added("conv_norm_out.weight", 4), r"holds conv_in\.bias, conv_in\.weight, conv_norm_out\.weight whole"),
        (added("conv_in.lora_B.default_encoder.weight", (5, 4, 1, 1)), "fits no weight of the network: conv_in"),
    ]
    assert_refused(lambda: import_osediff(file, sd, out), file, out, bad)


def test_what_is_not_pisasrs_is_refused(sd, tmp_path):
    file, out = tmp_path / "pisa_sr.pkl", tmp_path / "model"
    pisasr(sd, file)
    bad = [
        (without("conv_out.lora"), "lacks LoRA on conv_out"),
        (without("conv_in.lora_A.default_encoder_sem"), "has LoRA of conv_in that is not one A and one B"),
        (lambda content: {**content, "lora_rank_unet_sem": 4}, r"has rank 4, but holds ranks \[2\]"),
        (renamed("_sem.", "_sharp."), "has the unknown adapter 'default_decoder_sharp'"),
        (added("conv_in.base_layer.bias", 4), r"holds 'conv_in\.bias', and PiSA-SR's file nothing but LoRA"),
    ]
    assert_refused(lambda: import_pisasr(file, sd, out), file, out, bad)


def test_models_are_imported_one_at_a_time(sd, tmp_path, capsys):
    osediff(sd, tmp_path / "o.pkl")
    files = ["--osediff", tmp_path / "o.pkl", "--pisasr", tmp_path / "o.pkl"]
    assert main([*map(str, ["import", "--sd", sd, *files, "--out", tmp_path / "m"])]) == 1
    assert "--osediff and --pisasr are models of their own: import one at a time" in capsys.readouterr().err


def test_the_knobs_are_for_pisasr(sd, tmp_path):
    osediff(sd, tmp_path / "o.pkl")
    import_osediff(tmp_path / "o.pkl", sd, tmp_path / "model")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'model'} has no two adapters")):
        tvt_jax.load(tmp_path / "model", strength_semantic=0.5)
    with pytest.raises(ValueError, match=r"the pixel strength is -1.0: it must be 0 or more"):
        tvt_jax.load(tmp_path / "model", strength_pixel=-1.0)
