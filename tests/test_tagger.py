"""Tagging pictures, against torch and transformers."""

import json

import numpy as np
import pytest
import torch

from tests.models.torch_tagger import SMALL, random_ram, tag_logits
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.tagger import Tagger, as_prompt, shrink
from tvt_jax.tagger_folder import TaggerCard, TaggerFolder, read_tagger, write_tagger

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(*sizes):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def interpolated(picture, side):
    """Resize as torchvision does a tensor without antialiasing; in [0, 1]."""
    tensor = torch.tensor(picture).permute(2, 0, 1)[None].double() / 255
    resized = torch.nn.functional.interpolate(tensor, (side, side), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


def tagger(thresholds):
    tags = {f"tag {i}": threshold for i, threshold in enumerate(thresholds)}
    return TaggerFolder(config=SMALL, params=tree_from_torch(random_ram(SMALL)), card=TaggerCard(tags=tags))


@pytest.mark.parametrize("size", [(512, 640), (384, 384), (90, 41), (1, 3), (1031, 96)])
def test_pictures_shrink_by_torchs_filter(size):
    (picture,) = pictures(size)
    np.testing.assert_allclose(shrink(picture, 96), 255 * interpolated(picture, 96), atol=1e-4)  # float32 of 255


@pytest.fixture(scope="module")
def seen():
    """Three pictures, and the probability of each tag by transformers' modules."""
    images = pictures((130, 200), (96, 96), (40, 33))
    normalised = np.stack([(interpolated(image, 96) - MEAN) / DEVIATION for image in images])
    return images, 1 / (1 + np.exp(-tag_logits(random_ram(SMALL), normalised, SMALL)))


def test_tags_are_those_above_their_threshold_in_the_order_of_the_list(seen):
    images, expected = seen
    thresholds = expected[0] + np.where(np.arange(20) % 3, 1e-3, -1e-3)
    thresholds[3] = 1.0
    tag = Tagger(tagger(thresholds.tolist()))
    np.testing.assert_allclose(tag.probabilities(images), expected, atol=1e-5)
    assert tag(images)[0] == [f"tag {i}" for i in range(20) if i % 3 == 0 and i != 3]
    for row, tags in zip(expected, tag(images), strict=True):
        assert tags == [f"tag {i}" for i in np.flatnonzero(row > thresholds)]


def test_a_probability_that_is_the_threshold_is_not_above_it(seen):
    (image, *_), _ = seen
    own = Tagger(tagger([0.5] * 20)).probabilities([image])[0]
    assert Tagger(tagger(own.astype(float).tolist()))([image]) == [[]]


def test_the_prompt_is_the_releases():
    words = "clean, high-resolution, 8k,"
    assert as_prompt(["sky", "tall tree"], words) == "sky, tall tree, clean, high-resolution, 8k,"
    assert as_prompt([], words) == ", clean, high-resolution, 8k,"


def test_a_folder_comes_back(tmp_path):
    card = TaggerCard(tags={f"tag {i}": i / 20 for i in range(20)}, licence="free", source="a test")
    write_tagger(tmp_path / "tagger", SMALL, random_ram(SMALL), card)
    folder = read_tagger(tmp_path / "tagger")
    assert (folder.config, folder.card) == (SMALL, card)
    assert list(folder.card.tags) == list(card.tags)


def test_a_folder_that_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a tagger folder, having no tagger\.json"):
        read_tagger(tmp_path)
    card = tmp_path / "few" / "tagger.json"
    bad = (("{", "does not hold sound JSON"), ('{"tag": 1}', "has unknown fields"), ('{"tags": ["a"]}', "a threshold"))
    for content, message in bad:
        write_tagger(tmp_path / "few", SMALL, random_ram(SMALL), TaggerCard(tags={"a": 0.5}))
        card.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_tagger(tmp_path / "few")
    write_tagger(tmp_path / "few", SMALL, random_ram(SMALL), TaggerCard(tags={"a": 0.5}))
    with pytest.raises(ValueError, match="has 1 tags and a network for 20"):
        read_tagger(tmp_path / "few")
    write_tagger(tmp_path / "other", SMALL, random_ram(SMALL), TaggerCard(tags={f"tag {i}": 0.5 for i in range(20)}))
    config = SMALL.to_json() | {"hidden_size": 48}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"model\.safetensors does not hold the network of its config\.json"):
        read_tagger(tmp_path / "other")
