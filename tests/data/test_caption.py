"""Tags beside pictures: in batches, resumed, with bad files told at the end."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.models.torch_tagger import SMALL, random_ram
from tvt_jax.data import caption
from tvt_jax.data.caption import CaptionConfig, main
from tvt_jax.tagger import Tagger
from tvt_jax.tagger_folder import TaggerCard, read_tagger, write_tagger


@pytest.fixture
def images(tmp_path):
    """Five pictures, two of them of one name, and one that is none."""
    generator = np.random.default_rng(0)
    for name in ("a.png", "a.bmp", "b.png", "in/c.png", "in/d.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "bad.png").write_text("no picture")
    return tmp_path / "images"


@pytest.fixture
def tagger(tmp_path):
    card = TaggerCard(tags={f"tag {i}": 0.9 for i in range(20)})
    write_tagger(tmp_path / "tagger", SMALL, random_ram(SMALL), card)
    return tmp_path / "tagger"


def texts(images):
    return {path.relative_to(images).as_posix(): path.read_text() for path in images.rglob("*.txt")}


def test_every_picture_gets_its_tags_and_bad_ones_are_told(monkeypatch, capsys, images, tagger):
    monkeypatch.setattr(sys, "argv", ["caption", f"--tagger={tagger}", f"--images={images}", "--batch=2"])
    with pytest.raises(SystemExit, match=r"error: 1 pictures could not be read:\n .*bad\.png"):
        main()
    assert "5 pictures tagged" in capsys.readouterr().out
    tag, found = Tagger(read_tagger(tagger)), texts(images)
    assert set(found) == {"a.png.txt", "a.bmp.txt", "b.png.txt", "in/c.png.txt", "in/d.png.txt"}
    for name, text in found.items():
        (tags,) = tag([np.asarray(Image.open(images / name.removesuffix(".txt")))])
        assert text == ", ".join(tags) + "\n"


def test_it_goes_on_where_it_was_cut_off(monkeypatch, images, tagger):
    (images / "a.png.txt").write_text("by hand\n")
    (images / "bad.png").unlink()
    seen = []
    read = caption.read_image
    monkeypatch.setattr(caption, "read_image", lambda path: seen.append(path.name) or read(path))
    assert caption.caption(CaptionConfig(tagger=tagger, images=images, batch=3)) == (4, [])
    assert sorted(seen) == ["a.bmp", "b.png", "c.png", "d.png"]
    assert texts(images)["a.png.txt"] == "by hand\n"
    assert caption.caption(CaptionConfig(tagger=tagger, images=images, batch=3)) == (0, [])


def test_texts_that_people_brought_are_kept(images, tagger):
    (images / "bad.png").unlink()
    (images / "b.txt").write_text("by hand")
    (images / "metadata.csv").write_text("file_name,text\nin/c.png,of the table\n")
    assert caption.caption(CaptionConfig(tagger=tagger, images=images)) == (3, [])
    assert set(texts(images)) == {"a.png.txt", "a.bmp.txt", "b.txt", "in/d.png.txt"}


def test_shards_share_the_pictures_and_go_on(images, tagger):
    """Whoever is done first, each picture is tagged by one shard alone, also where some have their text."""
    (images / "bad.png").unlink()
    shards = [CaptionConfig(tagger=tagger, images=images, batch=2, shard=f"{i}/2") for i in range(2)]
    assert caption.caption(shards[1]) == (2, [])
    assert set(texts(images)) == {"a.png.txt", "in/c.png.txt"}
    assert caption.caption(shards[0]) == (3, [])
    assert [caption.caption(shard) for shard in shards] == [(0, []), (0, [])]
    apart = texts(images)
    for path in images.rglob("*.txt"):
        path.unlink()
    caption.caption(CaptionConfig(tagger=tagger, images=images, batch=2))
    assert texts(images) == apart


def test_a_shard_that_is_none_is_refused(images, tagger):
    with pytest.raises(ValueError, match="shard 2/2 must be I/N, with I from 0 to N - 1"):
        CaptionConfig(tagger=tagger, images=images, shard="2/2")
