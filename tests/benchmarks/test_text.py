"""Small text: distances by hand, pages that know where their lines are, and the recogniser where it is installed."""

import difflib

import numpy as np
import pytest

from benchmarks import text


@pytest.fixture
def fonts():
    pytest.importorskip("matplotlib")
    return text.bundled_fonts()


@pytest.mark.parametrize(
    ("written", "read", "edits"),
    [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("saturday", "sunday", 3), ("ab", "ba", 2)],
)
def test_edit_distance_of_textbook_pairs(written, read, edits):
    assert text.edit_distance(written, read) == edits


def test_edit_distance_is_a_metric_and_bounded_by_any_alignment():
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abc"), generator.integers(0, 8))) for _ in range(12)]
    for a in words:
        for b in words:
            distance = text.edit_distance(a, b)
            assert distance == text.edit_distance(b, a)
            assert all(distance <= text.edit_distance(a, c) + text.edit_distance(c, b) for c in words[:4])
            # difflib finds some alignment, the distance belongs to the best one.
            moves = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
            aligned = sum(max(i2 - i1, j2 - j1) for kind, i1, i2, j1, j2 in moves if kind != "equal")
            assert abs(len(a) - len(b)) <= distance <= aligned


@pytest.mark.parametrize(
    ("written", "read", "common"),
    [("", "abc", 0), ("abc", "abc", 3), ("abc", "a-b-c", 3), ("ab", "ba", 1), ("a", "b", 0)],
)
def test_common_subsequence_by_hand(written, read, common):
    assert text.common_subsequence(written, read) == common == text.common_subsequence(read, written)


def test_common_subsequence_and_deletions_are_the_same_thing():
    generator = np.random.default_rng(1)
    for _ in range(50):
        a, b = ("".join(generator.choice(list("ab"), generator.integers(0, 7))) for _ in range(2))
        # Without substitutions, what is not common is deleted or inserted: never cheaper than the edit distance.
        common = text.common_subsequence(a, b)
        assert max(len(a), len(b)) - common <= text.edit_distance(a, b) <= len(a) + len(b) - 2 * common


def test_counts_leave_out_white_space_and_cap_at_what_was_written():
    assert text.count_errors("a b", "a xyzuv") == text.Counts(written=2, plain=5, capped=2, recalled=1)


def test_error_rate_weighs_lines_by_length_and_ignores_spaces():
    assert text.character_error_rate(["one two", "x"], ["onetwo", "y"]) == pytest.approx(1 / 7)


def test_error_rate_refuses_lists_that_do_not_match():
    with pytest.raises(ValueError, match="zip"):
        text.character_error_rate(["a"], [])
    with pytest.raises(ValueError, match="no characters"):
        text.character_error_rate([" "], ["a"])


def test_pages_are_the_same_for_a_seed_and_differ_between_seeds(fonts):
    first, again, other = (text.render_page(np.random.default_rng(seed), fonts) for seed in (1, 1, 2))
    assert first.lines == again.lines and np.array_equal(first.image, again.image)
    assert first.lines != other.lines


@pytest.mark.parametrize("seed", range(6))
def test_all_ink_lies_inside_the_boxes_and_no_box_is_empty(fonts, seed):
    page = text.render_page(np.random.default_rng(seed), fonts, height=120, width=160, sizes=(10, 24))
    paper = page.image[0, 0]
    rest = page.image.copy()
    for line in page.lines:
        assert 10 <= line.size <= 24 and line.text.strip() == line.text != ""
        left, top, right, bottom = line.box
        assert 0 <= left < right <= 160 and 0 <= top < bottom <= 120
        assert (rest[top:bottom, left:right] != paper).any()
        rest[top:bottom, left:right] = paper
    assert (rest == paper).all()


def test_a_page_without_room_is_an_error(fonts):
    with pytest.raises(ValueError, match="8x8"):
        text.render_page(np.random.default_rng(0), fonts, height=8, width=8)


def test_lines_are_cut_out_at_their_boxes():
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    lines = [text.TextLine(text="", box=(1, 0, 4, 2), size=10)]
    assert text.read_page(image, lines, lambda crop: f"{crop.shape} {crop[0, 0, 0]}") == ["(2, 3, 3) 3"]


def test_without_the_recogniser_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rapidocr", None)
    with pytest.raises(ImportError, match=r"tvt-jax\[bench\]"):
        text.load_reader()


def test_the_recogniser_reads_clean_text_and_fails_on_what_is_gone(fonts):
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    page = text.render_page(np.random.default_rng(0), fonts, height=120, width=256, sizes=(18, 24))
    written = [line.text for line in page.lines]
    reader = text.load_reader()
    # One character in 100: what the recogniser was measured to lose on clean text of this size is below .002.
    assert text.character_error_rate(written, text.read_page(page.image, page.lines, reader)) < 0.01
    blank = np.zeros_like(page.image)
    assert text.character_error_rate(written, text.read_page(blank, page.lines, reader)) > 0.9
