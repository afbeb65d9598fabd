"""Texts beside images, encoded once each, in batches: those of the images, whoever makes the batches."""

import json
import re
import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from convert.to_model import import_sd
from tests.convert.conftest import sd, tensors, tokenizer  # noqa: F401
from tvt_jax.data import encode as encode_module
from tvt_jax.data.encode import EncodeConfig, encode
from tvt_jax.data.pipeline import DataConfig, make_iterator
from tvt_jax.data.prepare import PrepareConfig, prepare
from tvt_jax.data.prompts import Prompts, add_part
from tvt_jax.data.sources import distinct_texts
from tvt_jax.data.texts import Texts
from tvt_jax.model_folder import read_text_encoder
from tvt_jax.tokenizer import Tokenizer, encode_prompts

# By grey level, which tells which image it is.
TEXTS = {10: "a dog, a ball", 60: "snow", 110: "by hand", 160: "snow", 210: ""}


@pytest.fixture
def images(tmp_path):
    """Five plain pictures, with texts in every way there is; one has two, and one none."""
    folder = tmp_path / "images"
    (folder / "in").mkdir(parents=True)
    for level, name in zip(TEXTS, ("a.jpg", "b.png", "in/c.png", "in/d.png", "e.png"), strict=True):
        Image.fromarray(np.full((40, 40, 3), level, np.uint8)).save(folder / name)
    (folder / "a.jpg.txt").write_text("a dog,  a ball\n")
    (folder / "b.txt").write_text("snow")
    (folder / "in/c.png.txt").write_text("by hand")
    rows = "file_name,text,size\nin/c.png,of the table,1\nin/d.png,snow,1\n"
    (folder / "metadata.csv").write_text(rows)
    return folder


@pytest.fixture
def model(sd, tmp_path):  # noqa: F811
    import_sd(sd, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def store(tmp_path, images):
    """Prompts whose numbers tell the text: its place among the sorted ones."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "encoder.json").write_text("{}")
    texts = sorted({*TEXTS.values(), "unused"})
    add_part(folder, texts, np.arange(len(texts), dtype=np.float32)[:, None, None] + np.zeros((1, 3, 2), np.float32))
    return folder


def number(text):
    return sorted({*TEXTS.values(), "unused"}).index(text)


def config_of(images, store, **changes):
    return DataConfig(path=str(images), crop=16, batch=4, prompts=str(store), **changes)


def take(config, count, after=0, process=(0, 1)):
    iterator = make_iterator(config, 0, *process)
    iterator.set_state({"batches": after})
    batches = list(islice(iterator, count))
    iterator.close()
    return batches


def said(batch):
    """Grey level and number of the text of each image."""
    levels = batch["hr"][:, 0, 0, 0].astype(int)
    nearest = [min(TEXTS, key=lambda level, x=x: abs(level - x)) for x in levels]
    return list(zip(nearest, batch["prompt"][:, 0, 0].astype(int).tolist(), strict=True))


def test_texts_are_found_in_every_place(images):
    assert distinct_texts(images) == set(TEXTS.values())


def test_a_table_without_its_columns_is_refused(images):
    (images / "metadata.csv").write_text("file,text\n")
    with pytest.raises(ValueError, match=r"metadata\.csv has no column file_name"):
        distinct_texts(images)


def test_a_table_as_spreadsheets_write_it_is_read(images):
    """A byte-order mark, CRLF, quotes, commas and line breaks in a text, and a row twice."""
    rows = 'text,file_name\r\n"a ""red"" ball,\r\na dog",in/d.png\r\n"a ""red"" ball,\r\na dog",in/d.png\r\n'
    (images / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    assert Texts(images)[images / "in/d.png"] == 'a "red" ball, a dog'
    (images / "b.txt").write_bytes(b"\xef\xbb\xbfsnow\r\n")
    assert Texts(images)[images / "b.png"] == "snow"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"file_name,text\nin/d.png,snow\nin/d.png,rain\n", "line 3: in/d.png has another text above"),
        (b"file_name,text\nin/d.png,a dog, a ball\n", "line 2: in/d.png has more columns than the first line: put a"),
        ("file_name,text\nin/d.png,café\n".encode("utf-16"), "is not a table in UTF-8: 'utf-8' codec can't decode"),
        (b'file_name,text\nin/d.png,"' + b"x" * 200_000, "is not a table in UTF-8: field larger than field limit"),
    ],
)
def test_a_table_that_is_not_to_be_understood_is_refused(images, rows, message):
    (images / "metadata.csv").write_bytes(rows)
    with pytest.raises(ValueError, match=f"metadata.csv.* {re.escape(message)}"):
        distinct_texts(images)


def test_every_distinct_text_is_encoded_once_also_after_a_cut(images, model, tmp_path, monkeypatch):
    config = EncodeConfig(model=model, data=(str(images),), out=tmp_path / "out", batch=2)
    seen, inner = [], encode_module.encode_prompts

    def watched(texts, *rest):
        if len(seen) == 1:
            seen.append(None)
            raise KeyboardInterrupt
        seen.append(texts)
        return inner(texts, *rest)

    monkeypatch.setattr(encode_module, "encode_prompts", watched)
    monkeypatch.setattr(encode_module, "PART", 2)
    with pytest.raises(KeyboardInterrupt):
        encode(config)
    assert encode(config) == (2, 0, 4)
    assert [text for texts in seen if texts for text in texts] == ["", "a dog, a ball", "by hand", "snow"]
    assert encode(config) == (0, 0, 4)
    text_config, params = read_text_encoder(model)
    for text in TEXTS.values():
        (expected,) = encode_prompts([text], Tokenizer(model / "tokenizer"), text_config, params)
        # Stored in float16.
        np.testing.assert_allclose(Prompts(str(tmp_path / "out"))[text], expected, rtol=1e-3, atol=1e-4)


def test_texts_that_are_cut_are_counted(images, model, tmp_path):
    (images / "b.txt").write_text("snow " * 200)
    assert encode(EncodeConfig(model=model, data=(str(images),), out=tmp_path / "out"))[1] == 1


def test_prompts_of_another_encoder_are_not_mixed_in(images, model, tmp_path):
    config = EncodeConfig(model=model, data=(str(images),), out=tmp_path / "out")
    encode(config)
    file = model / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match="out holds prompts of another text encoder than"):
        encode(config)


def test_images_without_any_text_are_told(images, model, tmp_path):
    for file in (*images.rglob("*.txt"), images / "metadata.csv"):
        file.unlink()
    with pytest.raises(ValueError, match=r"no image of .*images has a text: python -m tvt_jax\.data\.caption"):
        encode(EncodeConfig(model=model, data=(str(images),), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tiles", [False, True])
def test_every_image_comes_with_its_text(images, store, tmp_path, tiles):
    path = images
    if tiles:
        manifest = prepare(PrepareConfig(images=images, out=tmp_path / "tiles", crop=20, stride=20, minimum_detail=0.0))
        assert manifest["texts"] == sorted(set(TEXTS.values()))
        shutil.rmtree(images)
        path = tmp_path / "tiles"
    pairs = [pair for batch in take(config_of(path, store), 10) for pair in said(batch)]
    assert {level for level, _ in pairs} == set(TEXTS)
    assert pairs == [(level, number(TEXTS[level])) for level, _ in pairs]


def test_the_empty_prompt_comes_at_its_rate(images, store):
    (images / "e.png").unlink()
    batches = take(replace(config_of(images, store, empty_prompt=0.3), batch=100), 6)
    empty = np.mean([which == number("") for batch in batches for _, which in said(batch)])
    # 600 draws: three standard deviations are .056.
    assert abs(empty - 0.3) < 0.056
    plain = take(replace(config_of(images, store), batch=100), 1)
    for with_empty, without in zip(batches[:1], plain, strict=True):
        np.testing.assert_array_equal(with_empty["hr"], without["hr"])


def test_batches_are_the_same_for_all_processes_and_after_a_cut(images, store):
    config = config_of(images, store, empty_prompt=0.5)
    whole = take(config, 4)
    for index, batch in enumerate(take(config, 2, after=2)):
        np.testing.assert_array_equal(batch["prompt"], whole[2 + index]["prompt"])
    halves = [take(config, 4, process=(process, 2)) for process in (0, 1)]
    for batch, *parts in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(batch["prompt"], np.concatenate([part["prompt"] for part in parts]))


@pytest.mark.slow
def test_batches_are_the_same_from_worker_processes(images, store):
    config = config_of(images, store, empty_prompt=0.5)
    for ours, theirs in zip(take(replace(config, workers=2), 3), take(config, 3), strict=True):
        np.testing.assert_array_equal(ours["prompt"], theirs["prompt"])


def test_texts_that_are_not_encoded_are_told_before_training(images, store):
    (images / "b.txt").write_text("a cat")
    with pytest.raises(ValueError, match=r"1 texts are not among the prompts in .*, such as 'a cat': give the same"):
        make_iterator(config_of(images, store), 0)
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no prompts; python -m tvt_jax\.data\.encode"):
        make_iterator(config_of(images, "nowhere"), 0)


def test_tiles_of_other_texts_are_not_continued(images, tmp_path):
    config = PrepareConfig(images=images, out=tmp_path / "tiles", crop=20, stride=20, minimum_detail=0.0)
    before = prepare(config)
    assert prepare(config) == before
    (images / "b.txt").write_text("ice")
    with pytest.raises(FileExistsError, match="holds tiles of other photos, texts or settings"):
        prepare(config)


def test_shards_give_the_same_tiles_with_texts(images, tmp_path):
    """One photo a part: also the part of the photo without a text has the feature."""
    config = PrepareConfig(
        images=images, out=tmp_path / "one", crop=20, stride=20, minimum_detail=0.0, photos_per_part=1
    )
    manifest = prepare(config)
    for shard in ("1/2", "0/2"):
        theirs = prepare(replace(config, out=tmp_path / "two", shard=shard))
    assert theirs == manifest
    features = [file.read_text() for file in (tmp_path / "two").rglob("features.json")]
    assert len(features) == len(TEXTS) and all('"text"' in told for told in features)


def test_beside_the_photos_of_a_list_no_texts_are_read(images, store, tmp_path, caplog):
    (tmp_path / "list.txt").write_text("images/a.jpg\nimages/b.png\n")
    with pytest.raises(ValueError, match=r"list\.txt is no folder on this machine, and only there are texts read"):
        make_iterator(config_of(tmp_path / "list.txt", store), 0)
    config = PrepareConfig(images=tmp_path / "list.txt", out=tmp_path / "tiles", crop=20, stride=20, minimum_detail=0.0)
    assert "texts" not in prepare(config)
    assert "list.txt are left out, such as that of" in caplog.text and "images/a.jpg: of a list" in caplog.text


@pytest.mark.parametrize("tiles", [False, True])
def test_a_table_beside_a_list_is_read(images, store, tmp_path, tiles):
    """And nothing else; `a.jpg` has a text of its own, which the table does not know."""
    path = tmp_path / "list.txt"
    path.write_text("images/a.jpg\nimages/b.png\nimages/in/c.png\n")
    (tmp_path / "metadata.csv").write_text("file_name,text\nimages/b.png,snow\nimages/in/c.png,by hand\n")
    if tiles:
        out = tmp_path / "tiles"
        config = PrepareConfig(images=path, out=out, crop=20, stride=20, minimum_detail=0.0)
        before = prepare(config)
        assert before["texts"] == ["", "by hand", "snow"]
        path = out
    pairs = {pair for batch in take(config_of(path, store), 6) for pair in said(batch)}
    assert pairs == {(10, number("")), (60, number("snow")), (110, number("by hand"))}
    if tiles:
        (tmp_path / "metadata.csv").write_text("file_name,text\nimages/b.png,ice\n")
        with pytest.raises(FileExistsError, match="holds tiles of other photos, texts or settings"):
            prepare(config)


def test_a_name_too_long_to_have_a_text_has_none(images):
    name = images / ("x" * 251 + ".jpg")
    (images / "e.png").rename(name)
    assert distinct_texts(images) == set(TEXTS.values())


def test_without_texts_tiles_are_as_ever(images, tmp_path):
    for file in (*images.rglob("*.txt"), images / "metadata.csv"):
        file.unlink()
    prepare(PrepareConfig(images=images, out=tmp_path / "tiles", crop=20, stride=20, minimum_detail=0.0))
    manifest = json.loads((tmp_path / "tiles" / "manifest.json").read_text())
    assert set(manifest) == {"complete", "settings", "photos", "counts", "parts"}
    assert set(manifest["photos"]) == {"files", "sha256"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"empty_prompt": 1.5, "prompts": "p"}, r"empty_prompt=1\.5 must be a share"),
        ({"empty_prompt": 0.5}, r"empty_prompt=0\.5 needs prompts"),
        ({"prompts": "gs://bucket/p"}, "is not supported here"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        DataConfig(path="images", **changes)
