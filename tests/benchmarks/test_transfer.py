"""The transfer table, on small random VAEs and a recogniser that is a stand-in."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from benchmarks import report, text, transfer
from tvt_jax.model_folder import ModelCard, ModelFolder, write_model
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig

LEVELS = {8: (4, 4, 4, 4), 4: (4, 4, 4)}


def make_folder(path, downsampling, seed, **more):
    config = AutoencoderKLConfig(
        block_out_channels=LEVELS[downsampling], layers_per_block=1, norm_num_groups=2, mid_block=False
    )
    # Shapes are all that matters: numpy draws the weights so that nothing has to be compiled for it.
    shapes = jax.eval_shape(AutoencoderKL(config).init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    draw = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: draw.normal(0, 0.1, leaf.shape).astype(np.float32), shapes["params"])
    write_model(path, ModelFolder(card=ModelCard(), vae_config=config, vae=params, **more))
    return config, params


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    pytest.importorskip("matplotlib")
    root = tmp_path_factory.mktemp("transfer")
    config, params = make_folder(root / "vae8", 8, 1)
    make_folder(root / "decoder", 4, 2, vae_source_config=config, vae_source=params)
    make_folder(root / "encoder", 4, 3)
    make_folder(root / "scratch", 4, 4)
    (root / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "photos" / "large.png")
    Image.fromarray(noise[:20]).save(root / "photos" / "small.png")
    folders = {name: root / name for name in ("vae8", "decoder", "encoder", "scratch")}
    return transfer.Options(**folders, images=root / "photos", crop=64, crops=2, pages=2, batch=2)


def test_measures_every_row_and_the_two_distances(options, monkeypatch):
    monkeypatch.setattr(text, "load_reader", lambda: lambda crop: "x")
    monkeypatch.setattr(transfer, "lpips", lambda image, truth: 0.5)
    figures = transfer.measure(options)
    truth, *rows = figures["rows"]
    assert set(figures["rows"][truth]["text"]) >= {"cer"} and len(rows) == 5
    assert all(set(figures["rows"][row]["photos"]) == {"psnr", "lpips"} for row in rows)
    assert list(figures["latents"]) == rows[-2:] and figures["photo_crops"] == 2
    assert json.loads(json.dumps(figures)) == figures
    lines = transfer.tables(figures).splitlines()
    assert sum(line.startswith("| 4x, after the encoder stage") for line in lines) == 2
    assert len({line.count("|") for line in lines[:8]}) == 1


def test_refuses_a_decoder_of_another_vae(options, tmp_path):
    make_folder(tmp_path / "other", 8, 9)
    with pytest.raises(ValueError, match="another 8x VAE"):
        transfer.load_rows(dataclasses.replace(options, vae8=tmp_path / "other"))


def test_refuses_folders_in_the_wrong_place(options):
    with pytest.raises(ValueError, match="downsamples 4x, expected 8x"):
        transfer.load_rows(dataclasses.replace(options, vae8=options.scratch))


def test_latent_distance_of_known_latents():
    reference = np.random.default_rng(0).normal(size=(2, 3, 3, 2)).astype(np.float32)
    same = transfer.latent_distance(reference, reference)
    assert same["relative_error"] == 0 and same["correlation"] == pytest.approx([1, 1])
    far = transfer.latent_distance(reference * np.float32([1.5, -1]), reference)
    first, second = np.square(reference.astype(np.float64)).sum(axis=(0, 1, 2))
    assert far["relative_error"] == pytest.approx(np.sqrt((first / 4 + second * 4) / (first + second)))
    assert far["correlation"] == pytest.approx([1, -1])


def test_scores_of_known_errors():
    truth = np.zeros((2, 32, 32, 3), np.uint8)
    restored = np.stack([np.full((32, 32, 3), 1), np.full((32, 32, 3), 10)]).astype(np.uint8)
    scores = transfer.scores(truth, restored)
    # Float32 in [-1, 1] carries an error of 1/255 to about five digits.
    assert scores["psnr"] == pytest.approx(10 * np.log10(255**2) - 10, abs=1e-3)
    # Equal images may differ in the last bit after two passes through the network.
    assert transfer.scores(truth, truth)["lpips"] < 1e-9 < scores["lpips"]


def test_no_large_photo_is_an_error(options):
    with pytest.raises(ValueError, match="no photo of 512 pixels"):
        transfer.photo_crops(options.images, 512, 1)


def test_tables_are_written_twice(tmp_path):
    report.write(tmp_path / "deep" / "table", {"a": 1}, report.markdown(("", "x"), [("row", "1")]))
    assert json.loads((tmp_path / "deep" / "table.json").read_text()) == {"a": 1}
    assert (tmp_path / "deep" / "table.md").read_text() == "|  | x |\n| --- | ---: |\n| row | 1 |\n"


def test_mistakes_end_in_one_line(options):
    with pytest.raises(SystemExit, match=r"error: .*is not a model folder"):
        report.run_as_command(lambda: transfer.measure(dataclasses.replace(options, encoder=options.images)))
