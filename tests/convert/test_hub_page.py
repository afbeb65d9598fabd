"""The page and the index of an export say what the card says."""

import json
from dataclasses import replace

import pytest

from convert.to_model import LICENCE, import_sd
from convert.to_torch import export_diffusers
from tests.convert.small import VAE_D4, random_tensors
from tvt_jax.inference.upscaler import PRETRAINED
from tvt_jax.model_folder import ModelCard, ModelFolder, read_card, write_model
from tvt_jax.models.keys import tree_from_torch

CARD = ModelCard(scale=2, smallest_side=64, time_step=7, posterior="sample", color_fix="none", licence="MIT")


def header(page):
    """The page's YAML, which has plain lines only."""
    _, lines, _ = page.split("---\n", 2)
    return dict(line.split(": ", 1) for line in lines.splitlines())


def page_of(card, tmp_path):
    vae = tree_from_torch(random_tensors(VAE_D4))
    write_model(tmp_path / "model", ModelFolder(card=card, vae_config=VAE_D4, vae=vae))
    export_diffusers(tmp_path / "model", tmp_path / "out")
    return (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0; and so on", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        ("", {"license": "unknown"}),
        ('my "own"', {"license": "other", "license_name": '"my \\"own\\""'}),
        (LICENCE, {"license": "openrail++", "base_model": "stabilityai/stable-diffusion-2-1-base"}),
    ],
)
def test_the_header_names_the_licence(tmp_path, licence, expected):
    common = {"library_name": "diffusers", "tags": "[super-resolution, image-restoration, tvt]"}
    page = page_of(replace(CARD, licence=licence), tmp_path)
    assert header(page) == expected | common
    assert (licence or "unknown") in page


def test_a_vae_alone_has_no_pipeline(tmp_path):
    page = page_of(CARD, tmp_path)
    assert 'AutoencoderKL.from_pretrained("FOLDER", subfolder="vae")' in page and "DiffusionPipeline" not in page
    assert not (tmp_path / "out" / "pipeline.py").exists()


def test_page_and_index_say_how_the_model_runs(sd, tmp_path):
    import_sd(sd, tmp_path / "model")
    export_diffusers(tmp_path / "model", tmp_path / "out")
    index, card = json.loads((tmp_path / "out" / "model_index.json").read_text()), read_card(tmp_path / "model")
    names = ("scale", "smallest_side", "time_step", "posterior", "color_fix", "prediction")
    assert {name: index[name] for name in names} == {name: getattr(card, name) for name in names}
    page = (tmp_path / "out" / "README.md").read_text()
    assert header(page)["pipeline_tag"] == "image-to-image"
    for text in (card.prompt, card.licence, card.source, "custom_pipeline", "time step | 1 |", "## Limits"):
        assert text in page


@pytest.mark.parametrize("method", ["OSEDiff", "PiSA-SR", "Transfer VAE Training"])
def test_the_page_names_the_method(tmp_path, method):
    assert f"# One-step super-resolution by {method}\n" in page_of(replace(CARD, source=f"{method}, a.pkl"), tmp_path)


def test_what_the_models_own_page_says_is_in_the_page(tmp_path):
    export_diffusers(PRETRAINED, tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("# ")] == [
        page.split("---\n")[2].strip().split("\n")[0]
    ]
    title = (PRETRAINED / "README.md").read_text().splitlines()[0]
    assert f"\n#{title}\n" in page and "![" not in page
