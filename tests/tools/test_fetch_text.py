"""Fonts, documents and lines of text, without the packages that they come from."""

from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageFont

from benchmarks import text
from tools.fetch import documents, fonts, lines
from tools.fetch.fonts import Face, faces, fetch_fonts
from tools.fetch.lines import draw, draw_lines
from tools.fetch.writing import CHARACTERS, Writing, characters_by_chance
from tools.fetch_text import piece
from tvt_jax.data.text.excluded import excluded_word
from tvt_jax.data.text.manifest import Manifest, save
from tvt_jax.data.text.source import SCENES, open_text

EVERYTHING = {"en": set("abc"), "zh": set("的"), "figures": set(CHARACTERS), "code": set(CHARACTERS)}


def font(name: str) -> Path:
    """One of matplotlib's."""
    return text.bundled_fonts()[0].with_name(name)


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A folder with a face to train with, one held out and one of the benchmarks, so to speak."""
    folder = tmp_path / "fonts" / "fonts-kit"
    folder.mkdir(parents=True)
    for name in ("DejaVuSans.ttf", "cmss10.ttf"):
        (folder / name).symlink_to(font(name))
    return tmp_path


def test_faces_have_all_characters_and_are_none_of_the_benchmarks(fetched: Path):
    assert [(face.family, face.texts) for face in faces(fetched, {"en": set("abc"), "zh": set("的")}, False)] == [
        ("cmss10", ("en",))
    ]
    assert faces(fetched, {"zh": set("的")}, False) == []
    assert faces(fetched, {"en": set("abc")}, True) == []


def test_held_out_faces_are_apart(fetched: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fonts, "HELD_OUT_FACES", ("cmss",))
    assert faces(fetched, {"en": set("abc")}, False) == []
    assert [face.family for face in faces(fetched, {"en": set("abc")}, True)] == ["cmss10"]


def test_what_could_not_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def download(registry: str, name: str, folder: Path) -> tuple[Path, str]:
        if name == "fonts-gone":
            raise RuntimeError("apt-get download fonts-gone failed:\nE: Unable to locate package fonts-gone")
        (folder / "usr/share/fonts").mkdir(parents=True)
        (folder / "usr/share/fonts/other.ttf").touch()
        return folder, "1"

    monkeypatch.setattr(fonts, "download", download)
    monkeypatch.setattr(fonts, "PACKAGES", {"fonts-gone": ("*",), "fonts-new": ("Old*",)})
    failures = fetch_fonts(tmp_path)
    assert failures[0].startswith("fonts-gone: apt-get download fonts-gone failed")
    assert failures[1] == "fonts-new: no font is named Old*; was another version fetched?"
    assert not list(tmp_path.glob(".download-*"))


def test_no_word_of_the_benchmarks_is_written():
    writing = Writing({"en": "Debian about the Castle, harbour! installer", "zh": "安装 中国 程序"})
    generator = np.random.default_rng(0)
    drawn = {writing.running(name, 60, generator) for name in ("en", "zh", "code") for _ in range(50)}
    assert not any(excluded_word(word) for line in drawn for word in line.split())
    assert any("Debian the installer" in line for line in drawn) and any("安装程序" in line for line in drawn)


def test_a_text_without_words_is_named():
    with pytest.raises(ValueError, match="the text 'en' has no word to write"):
        Writing({"en": "castle house"})


def test_figures_and_code_need_known_characters_alone():
    writing = Writing({"en": "installer plain"})
    generator = np.random.default_rng(0)
    for name in ("figures", "code"):
        drawn = "".join(writing.running(name, 400, generator) for _ in range(50))
        assert set(drawn) <= {*CHARACTERS, " "}


def test_characters_by_chance_are_those_of_the_standards():
    texts = characters_by_chance(0)
    assert {name: len(set(text) - {" "}) > 2000 for name, text in texts.items()} == dict.fromkeys(texts, True)
    assert texts == characters_by_chance(0) and texts != characters_by_chance(1)


def test_lines_have_ink_and_know_their_words():
    line = draw(ImageFont.truetype(font("cmss10.ttf"), 40), "one two three")
    assert line.ink.any(axis=1).all(), "no row is empty"
    assert len(line.words) == 3 and 20 < line.above < 40
    assert draw(ImageFont.truetype(font("cmss10.ttf"), 40), "long " * 99).ink.shape[1] == lines.WIDTH
    with pytest.raises(ValueError, match=r"the face cmss10 draws nothing for ' '"):
        draw(ImageFont.truetype(font("cmss10.ttf"), 40), " ")


def test_a_folder_of_drawn_lines_can_be_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What the tool writes is what the source reads; the same every time."""
    monkeypatch.setattr(lines, "SIZES", (12, 30))
    known = [
        Face(file=font("cmss10.ttf"), family="A", texts=("en", "figures")),
        Face(file=font("cmtt10.ttf"), family="B", texts=("en", "code")),
    ]
    scripts, families, arrays = draw_lines(known, Writing({"en": "some plain text for installers"}))
    again = draw_lines(known, Writing({"en": "some plain text for installers"}))[2]
    assert (scripts, families) == (("latin", "figures", "code"), ("A", "B"))
    assert all((arrays[name] == again[name]).all() for name in arrays)
    save(Manifest(folder=tmp_path, scripts=scripts, families=families), arrays)
    source = open_text(tmp_path)
    assert all(np.ptp(source[index]) > 0 for index in range(2 * len(SCENES)))


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A PDF of 60 pages of coarse noise."""
    generator = np.random.default_rng(0)
    pages = [Image.fromarray(generator.integers(0, 256, (60, 50), np.uint8)).resize((500, 600)) for _ in range(60)]
    pages[0].save(tmp_path / "en.pdf", save_all=True, append_images=pages[1:])
    return tmp_path / "en.pdf"


def test_pages_held_out_are_not_trained_on(document: Path):
    opened = pypdfium2.PdfDocument(document)
    train, held_out = (documents.numbers(opened, held) for held in (False, True))
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == list(range(documents.LEFT_OUT[0], 60 - documents.LEFT_OUT[1]))
    assert len(held_out) == 4


def test_rasterised_pages_are_the_same_every_time(document: Path):
    one, other = (np.concatenate(list(documents.rasterise(document))) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one.shape[1:] == (documents.TILE, documents.TILE) and len(one) > 10
    assert not list(documents.rasterise(document.with_name("ko.pdf"))), "set in a face of the benchmarks"


def test_words_are_cleaned():
    assert documents._cleaned("ﬁle … co\xadde “a” x_y café ■ 3—4") == 'file ... code "a" café 3-4'


def test_backgrounds_are_squares():
    photo = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    assert piece(photo, np.random.default_rng(1)).shape == (256, 256, 3)
