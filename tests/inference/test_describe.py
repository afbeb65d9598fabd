"""Upscaling with a prompt for each picture: what its tagger finds, and the model's own words."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.convert.conftest import tokenizer  # noqa: F401
from tests.convert.small import TEXT_ENCODER, random_tensors, save
from tests.models.torch_tagger import SMALL, random_ram
from tvt_jax.inference import Upscaler, load
from tvt_jax.inference.batch import How, is_done, upscale_file
from tvt_jax.inference.images import read_mark
from tvt_jax.inference.prompt import enlarge, with_prompt
from tvt_jax.model_folder import read_model, write_model
from tvt_jax.tagger import Tagger, as_prompt
from tvt_jax.tagger_folder import TaggerCard, read_tagger, write_tagger

WIDTH = 8  # of the small UNet's texts


def photos():
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, size, np.uint8) for size in ((9, 7, 3), (8, 12, 3))]


@pytest.fixture
def tagger_path(tmp_path):
    """A tagger whose every tag is of one of the two photos."""
    folder = tmp_path / "tagger"
    names = [f"tag{i}" for i in range(20)]
    write_tagger(folder, SMALL, random_ram(SMALL), TaggerCard(tags=dict.fromkeys(names, 0.5)))
    likely = Tagger(read_tagger(folder)).probabilities([enlarge(photo, 4) for photo in photos()]).mean(0)
    card = TaggerCard(tags=dict(zip(names, likely.tolist(), strict=True)))
    write_tagger(folder, SMALL, random_ram(SMALL), card)
    return folder


@pytest.fixture
def model(tmp_path, folder, tokenizer):  # noqa: F811
    """The small model with a text encoder, whose prompt counts for something."""
    write_model(tmp_path / "model", folder)
    config = replace(TEXT_ENCODER, hidden_size=WIDTH)
    (tmp_path / "model" / "text_encoder").mkdir()
    (tmp_path / "model" / "text_encoder" / "config.json").write_text(json.dumps(config.to_json()))
    save(tmp_path / "model" / "text_encoder" / "model.safetensors", random_tensors(config))
    tokenizer.rename(tmp_path / "model" / "tokenizer")
    return tmp_path / "model"


@pytest.mark.filterwarnings("ignore:the prompt is longer")
def test_each_picture_gets_its_own_prompt(model, tagger_path):
    described = load(model, tagger=tagger_path)
    tag = Tagger(read_tagger(tagger_path))
    found = [tag([enlarge(photo, 4)])[0] for photo in photos()]
    assert found[0] != found[1]
    for photo, tags in zip(photos(), found, strict=True):
        told = Upscaler(with_prompt(read_model(model), model, as_prompt(tags, "a photo")))
        np.testing.assert_array_equal(described.upscale(photo), told.upscale(photo))


def test_a_prompt_takes_the_place_of_the_models_words(model, tagger_path):
    photo, _ = photos()
    (tags,) = Tagger(read_tagger(tagger_path))([enlarge(photo, 4)])
    told = load(model, prompt=as_prompt(tags, "sharp")).upscale(photo)
    np.testing.assert_array_equal(load(model, tagger=tagger_path, prompt="sharp").upscale(photo), told)


def test_the_tagger_sees_what_the_releases_sees():
    photo, _ = photos()
    enlarged = Image.fromarray(photo).resize((28, 36), Image.Resampling.BICUBIC)
    expected = enlarged.resize((24, 32), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(enlarge(photo, 4), np.asarray(expected))


def test_a_model_without_a_text_encoder_says_so(tmp_path, folder, tagger_path):
    write_model(tmp_path / "plain", folder)
    with pytest.raises(ValueError, match=r"^this model has no text encoder and knows only its own prompt, 'a photo'$"):
        load(tmp_path / "plain", tagger=tagger_path)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_a_result_tells_the_prompt_it_was_made_by(tmp_path, model, tagger_path, ending):
    _, photo = photos()
    Image.fromarray(photo).save(tmp_path / "a.png")
    pair, recipe = (tmp_path / "a.png", tmp_path / f"b{ending}"), "tvt model=1 options=2"
    (tags,) = Tagger(read_tagger(tagger_path))([enlarge(photo, 4)])
    upscaler = load(model, tagger=tagger_path, prompt='"Café"')
    upscale_file(upscaler, *pair, None, How(recipe=recipe))
    told = json.loads(read_mark(pair[1]).partition(" prompt=")[2])
    assert told == as_prompt(tags, '"Café"') and tags
    assert is_done(pair, recipe) and not is_done(pair, "tvt model=1 options=3")
    upscale_file(upscaler, *pair, None, How(recipe=recipe, strip_metadata=True))
    assert "prompt" not in read_mark(pair[1]) and is_done(pair, recipe)


def test_a_prompt_whose_end_is_not_read_is_told(model):
    load(model, prompt="a " * 75)
    with pytest.warns(UserWarning, match="^the prompt is longer than 77 tokens, and its end is not read$"):
        load(model, prompt="a " * 200)
