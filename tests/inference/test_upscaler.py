from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

import tvt_jax
from tests.inference.weird import FILES
from tvt_jax.diffusion import OneStep
from tvt_jax.inference import Upscaler
from tvt_jax.inference.images import read_picture
from tvt_jax.inference.networks import run_whole
from tvt_jax.inference.statistics import Norms
from tvt_jax.inference.upscaler import _RUN_WHOLE
from tvt_jax.model_folder import write_model


def photo(height, width, channels=3):
    """Smooth, so that a resized and a restored one can be compared."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(0.3 * y + 0.1 * c) * np.cos(0.2 * x - 0.2 * c) for c in range(channels)]
    return np.rint(127.5 + 100 * np.dstack(waves)).astype(np.uint8)


def as_input(image):
    return image[None].astype(np.float32) / 127.5 - 1


def test_a_whole_picture_goes_by_the_formula(folder, upscaler):
    """Of what the networks see: how it is padded, and what of it the norms see, has its own tests."""
    x, text = as_input(photo(64, 64)), folder.prompt_embedding[None]
    z = 0.5 * upscaler.vae.encode(x).mean
    noise = np.asarray(upscaler.unet(z, np.array([1]), text), np.float64)
    # The product over DDPM's first two steps of 1 - beta, beta as in SD's scaled linear schedule.
    alpha = np.prod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000)[:2] ** 2)
    clean = (np.asarray(z, np.float64) - np.sqrt(1 - alpha) * noise) / np.sqrt(alpha)
    expected = upscaler.vae.decode(clean.astype(np.float32) / 0.5)
    networks = (upscaler.vae.network, upscaler.unet.network)
    params = (upscaler.vae.params, upscaler.unet.params)
    norms = Norms(np.array([[0, 1, 0, 1]], np.float32))
    result = run_whole(networks, OneStep(1), params, x, np.zeros(z.shape, np.float32), text, norms)
    # 1e-4: float32 against float64 before the decoder.
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_text_embedding_matters(folder, upscaler):
    x, text = as_input(photo(16, 16)), folder.prompt_embedding[None]
    np.testing.assert_array_equal(upscaler.restore(x, text), upscaler.restore(x))
    assert (upscaler.restore(x, -text) != upscaler.restore(x)).any()


def test_vae_and_unet_are_at_hand(upscaler):
    posterior = upscaler.vae.encode(as_input(photo(64, 64)))
    assert posterior.mean.shape == posterior.log_variance.shape == (1, 32, 32, 4)
    assert upscaler.vae.decode(posterior.mean).shape == (1, 64, 64, 3)
    assert upscaler.unet(posterior.mean, np.array([1])).shape == (1, 32, 32, 4)


@pytest.mark.parametrize("name", FILES)
def test_every_kind_is_upscaled(tmp_path, upscaler, name):
    data, shape = FILES[name]
    (tmp_path / name).write_bytes(data)
    result = upscaler.upscale(read_picture(tmp_path / name).pixels)
    assert result.shape == (4 * shape[0], 4 * shape[1], shape[2])
    assert result.dtype == (np.uint16 if "16" in name else np.uint8)


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3.3, 4, 7.77, 8, None])
def test_scales(upscaler, scale):
    result = upscaler.upscale(photo(11, 7), scale)
    assert result.shape == (round(11 * (scale or 4)), round(7 * (scale or 4)), 3)
    assert upscaler.result_size(11, 7, scale) == result.shape[:2]


@pytest.mark.parametrize(
    ("size", "working_size"), [((5, 8), (16, 25)), ((16, 20), (16, 20)), ((1, 100), (1, 100)), ((2, 30), (4, 64))]
)
def test_small_pictures_are_enlarged_first(folder, upscaler, size, working_size):
    """As the release does it; strips only so far that four times the smallest side holds them."""
    careful = Upscaler(replace(folder, card=replace(folder.card, smallest_side=64)))
    resized = Image.fromarray(photo(*size)).resize(working_size[::-1], Image.Resampling.BICUBIC)
    expected = Image.fromarray(upscaler.upscale(np.asarray(resized)))
    result_size = (4 * size[1], 4 * size[0])
    np.testing.assert_array_equal(
        careful.upscale(photo(*size)), np.asarray(expected.resize(result_size, Image.Resampling.LANCZOS))
    )


@pytest.mark.parametrize("scale", [0.99, 8.1, -4, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_an_error(upscaler, scale):
    with pytest.raises(ValueError, match="out of range, use 1 to 8"):
        upscaler.upscale(photo(4, 4), scale)


def test_another_scale_is_the_card_s_resized(upscaler):
    full = Image.fromarray(upscaler.upscale(photo(11, 7)))
    expected = full.resize((14, 22), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(upscaler.upscale(photo(11, 7), 2), np.asarray(expected))


def test_grey_without_a_channel_axis(upscaler):
    grey = photo(9, 6, 1)
    np.testing.assert_array_equal(upscaler.upscale(grey[..., 0]), upscaler.upscale(grey)[..., 0])


def test_alpha_is_upscaled_along(upscaler):
    alpha = photo(9, 6, 1)
    result = upscaler.upscale(np.dstack([photo(9, 6), alpha]))
    expected = Image.fromarray(alpha[..., 0]).resize((24, 36), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(result[..., 3], np.asarray(expected))


def test_opaque_alpha_changes_no_color(upscaler):
    rgba = np.dstack([photo(9, 6), np.full((9, 6), 255, np.uint8)])
    result = upscaler.upscale(rgba)
    np.testing.assert_array_equal(result[..., :3], upscaler.upscale(photo(9, 6)))
    assert (result[..., 3] == 255).all()


@pytest.mark.parametrize("fix", ["adain", "wavelet"])
def test_color_fix_gives_the_colors_back(folder, fix):
    image = photo(16, 16)
    color = image.mean(axis=(0, 1))
    drift = {name: Upscaler(folder, color_fix=name).upscale(image).mean(axis=(0, 1)) - color for name in (fix, "none")}
    # The random network's colours are far off. Exact it isn't after clipping to what eight bits can hold.
    assert np.abs(drift[fix]).max() < 0.5 * np.abs(drift["none"]).max()


def test_a_picture_no_larger_than_a_batch_of_tiles_is_not_tiled(folder, upscaler):
    image = photo(16, 16)
    np.testing.assert_array_equal(Upscaler(folder, tile=96).upscale(image), upscaler.upscale(image))


def test_tiles_are_reported_batch_by_batch_and_can_be_given_up(folder):
    upscaler, told = Upscaler(folder, tile=96), []
    upscaler.upscale(photo(98, 98), report=lambda *step: told.append(step))
    assert len(told) > 3
    assert told == [(i + 1, len(told)) for i in range(len(told))]

    def stop(done, total):
        raise KeyError("given up")

    with pytest.raises(KeyError, match="given up"):
        upscaler.upscale(photo(98, 98), report=stop)


def test_too_large_for_the_memory_is_said(folder, monkeypatch):
    monkeypatch.setattr("tvt_jax.inference.plan.free_host_bytes", lambda: 2_000_000)
    with pytest.raises(MemoryError, match=r"needs about \d\.\d GB of memory and 0\.0 are free"):
        Upscaler(folder).restore(as_input(photo(500, 500)))


def test_a_device_that_runs_out_of_memory_gets_smaller_tiles(folder, upscaler, monkeypatch, capsys):
    sides = []

    def run_out(*inputs):
        sides.append(inputs[3].shape[1] // 2)
        if len(sides) == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return run_whole(*inputs)

    monkeypatch.setattr("tvt_jax.inference.upscaler._RUN_WHOLE", run_out)
    image = photo(8, 8)
    np.testing.assert_array_equal(Upscaler(folder).upscale(image), upscaler.upscale(image))
    assert capsys.readouterr().err == "the device's memory ran out: going on with tiles of 144 latent pixels\n"


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((4, 4, 3)), r"float64 \[4, 4, 3\]"),
        (np.zeros((4, 4, 5), np.uint8), r"uint8 \[4, 4, 5\]"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \[0, 4, 3\]"),
        (np.zeros(4, np.uint8), r"uint8 \[4\]"),
    ],
)
def test_what_is_no_picture_is_refused(upscaler, image, what):
    with pytest.raises(ValueError, match=rf"upscale takes a PIL image, or uint8 or uint16 .* not {what}"):
        upscaler.upscale(image)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_pil_images_are_upscaled(upscaler, mode):
    image = Image.fromarray(photo(5, 4)).convert(mode)
    expected = upscaler.upscale(np.asarray(image if mode not in ("P", "CMYK") else image.convert("RGB")))
    np.testing.assert_array_equal(upscaler.upscale(image).squeeze(), expected)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((1, 8, 8, 3), 255.0), r"floats in \[-1, 1\], and these go from 255 to 255"),
        (np.full((1, 8, 8, 3), np.nan), "these go from nan to nan"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"not uint8 \[1, 8, 8, 3\]"),
        (np.zeros((8, 8, 3)), r"not float64 \[8, 8, 3\]"),
    ],
)
def test_restore_refuses_what_is_out_of_range(upscaler, x, message):
    with pytest.raises(ValueError, match=message):
        upscaler.restore(x)


def test_few_sizes_are_compiled(upscaler):
    def programs():
        return run_whole._cache_size() + len(_RUN_WHOLE._executables)

    upscaler.upscale(photo(16, 16))
    before = programs()
    for height, width in [(1, 1), (3, 16), (16, 2), (7, 7)]:
        upscaler.upscale(photo(height, width))
    assert programs() == before > 0


def test_rows_over_devices_change_nothing(folder, upscaler):
    x = as_input(photo(64, 64))
    # 1e-5: sums in another order.
    np.testing.assert_allclose(Upscaler(folder, device_rows=4).restore(x), upscaler.restore(x), atol=1e-5)


def test_bfloat16_is_close(folder, upscaler):
    x = as_input(photo(64, 64))
    error = Upscaler(folder, dtype="bfloat16").restore(x) - upscaler.restore(x)
    # bfloat16 has 8 bits; a few per cent after some thirty layers.
    assert np.abs(error).mean() < 0.03


def test_a_sampled_posterior_is_the_same_each_time(folder, upscaler):
    sampling = Upscaler(replace(folder, card=replace(folder.card, posterior="sample")))
    image = photo(16, 16)
    np.testing.assert_array_equal(sampling.upscale(image), sampling.upscale(image))
    assert (sampling.upscale(image) != upscaler.upscale(image)).any()


def test_a_vae_alone_encodes_but_does_not_restore(folder):
    upscaler = Upscaler(replace(folder, unet=None, unet_config=None, prompt_embedding=None))
    assert upscaler.unet is None
    assert upscaler.vae.encode(as_input(photo(64, 64))).mean.shape == (1, 32, 32, 4)
    with pytest.raises(ValueError, match="no UNet"):
        upscaler.restore(as_input(photo(16, 16)))


def test_bad_options_are_errors(folder):
    with pytest.raises(ValueError, match="tile=95 is too small, use at least 96"):
        Upscaler(folder, tile=95)
    with pytest.raises(ValueError, match="drop tile or device_rows"):
        Upscaler(folder, tile=96, device_rows=2)
    with pytest.raises(ValueError, match="dtype='float16' isn't known, use one of float32, bfloat16"):
        Upscaler(folder, dtype="float16")
    with pytest.raises(ValueError, match="color_fix='lab' isn't known, use one of adain, wavelet, none"):
        Upscaler(folder, color_fix="lab")
    with pytest.raises(ValueError, match=r"device_rows=5, but jax sees 4 device\(s\)"):
        Upscaler(folder, device_rows=5)
    with pytest.raises(ValueError, match=r"no prompt_embedding\.safetensors"):
        Upscaler(replace(folder, prompt_embedding=None))


def test_load_reads_a_folder_and_keeps_compiled_programs(tmp_path, monkeypatch, folder, upscaler):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        write_model(tmp_path / "model", folder)
        loaded = tvt_jax.load(tmp_path / "model", color_fix="none")
        assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path / "tvt_jax")
        expected = Upscaler(folder, color_fix="none").upscale(photo(8, 8))
        np.testing.assert_array_equal(loaded.upscale(photo(8, 8)), expected)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
