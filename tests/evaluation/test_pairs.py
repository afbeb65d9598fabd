"""Which picture belongs to which, and what is said of those that are left out."""

import os
from pathlib import Path

import pytest

from tvt_jax.evaluation.pairs import find_pairs


@pytest.fixture
def folders(tmp_path):
    """Makes empty files of the names given, and pairs them: name -> names of both files, and what is left out."""

    def pair(sr, hr, **options):
        for folder, names in {"sr": sr, "hr": hr}.items():
            for name in names.split():
                file = tmp_path / folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        pairs, left_out = find_pairs(tmp_path / "sr", tmp_path / "hr", **options)
        root = str(tmp_path) + "/"
        shown = {name: tuple(str(file).removeprefix(root) for file in pair) for name, pair in pairs.items()}
        return shown, {name.removeprefix(root): why.replace(root, "") for name, why in left_out.items()}

    return pair


@pytest.mark.parametrize(
    ("sr", "hr", "name"),
    [
        ("a.png", "a.jpg", "a"),
        ("a.PNG", "a.ppm", "a"),
        ("Canon_001_LR4.png", "Canon_001_HR.png", "Canon_001"),
        ("Canon_001_LR4.png", "Canon_001_LR4.png", "Canon_001"),
        ("a_SR.png", "a_GT.png", "a"),
        ("a-sr.png", "a.png", "a"),
        ("0801x4.png", "0801.png", "0801"),
        ("baby_x4.png", "baby_HR.png", "baby"),
        ("a_SRx4.png", "a.png", "a"),
        ("a_x4_SR.png", "a_HR.png", "a"),
        ("img_SR1.png", "img_HR1.png", "img_1"),
        ("tile_3x4.png", "tile_3x4.png", "tile_3x4"),
        ("Canon/b.png", "Canon/b_HR.png", "Canon/b"),
    ],
)
def test_names_that_pair(folders, sr, hr, name):
    assert folders(sr, hr) == ({name: (f"sr/{sr}", f"hr/{hr}")}, {})


@pytest.mark.parametrize(
    ("sr", "hr"),
    [
        ("img_SR1.png", "img_HR2.png"),
        ("img_SR2.png", "img_HR3.png"),
        ("img_LR4.png", "img_HR2.png"),
        ("img_SR1.png", "img_HR.png"),
        ("tile_3x4.png", "tile_3x2.png"),
        ("img4.png", "img.png"),
        ("wall_800x600.png", "wall_800.png"),
        ("Canon/b.png", "Nikon/b.png"),
        ("a.png", "Canon/a.png"),
        ("a_out.png", "a.png"),
    ],
)
def test_names_that_do_not(folders, sr, hr):
    with pytest.raises(ValueError, match=r"no picture in .*sr has the name of one in .*, such as .* and .*: folder"):
        folders(sr, hr)


def test_a_suffix_is_left_out_and_names_without_it_are_named(folders):
    pairs, left_out = folders("a_out.png b.png", "a.png b.png", suffix="_out")
    assert pairs == {"a": ("sr/a_out.png", "hr/a.png")}
    assert left_out == {"b.png": "has no partner in hr", "b": "has no partner in sr"}


def test_what_has_no_partner_is_named_on_both_sides(folders):
    _, left_out = folders("a.png b.png metrics.log sub/c.png .hidden.png .cache/d.png", "a.png sub/e.png")
    assert left_out == {
        "b": "has no partner in hr",
        "sub/c": "has no partner in hr",
        "sub/e": "has no partner in sr",
    }


def test_two_of_a_name_are_named_and_the_rest_goes_on(folders):
    pairs, left_out = folders("a.png a.jpg b.png c_SR2.png c_SR3.png d.png", "a.png b.png c.png d_HR.png d_GT.png")
    assert list(pairs) == ["b"]
    assert left_out["a"] == "sr/a.jpg and sr/a.png have the same name: keep one of them"
    assert left_out["c"].startswith("sr/c_SR2.png and sr/c_SR3.png have") and left_out["d"].startswith(
        "hr/d_GT.png and"
    )


def test_pictures_of_other_formats_are_named(folders):
    _, left_out = folders("a.png b.exr c.tga notes.txt", "a.png b.exr")
    assert sorted(left_out) == ["hr/b.exr", "sr/b.exr", "sr/c.tga"]
    assert all(why.startswith("is of a format that is not read, use one of .avif") for why in left_out.values())


def test_links_to_folders_are_named(folders, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sr").mkdir()
    (tmp_path / "sr" / "more").symlink_to(tmp_path / "elsewhere")
    assert folders("a.png", "a.png")[1] == {"sr/more": "is a link to a folder, which is not followed"}


def test_what_is_no_file_or_has_no_readable_name_is_named(folders, tmp_path):
    for side in ("sr", "hr"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a\u202fb.png").touch()
    os.mkfifo(tmp_path / "sr" / "pipe.png")  # to open it would wait for ever
    (tmp_path / "sr" / "lost.png").symlink_to("nowhere")
    (tmp_path / "sr" / "lost.txt").symlink_to("nowhere")
    for name in (b"a\xff.png", b"a\x1b[31m.png"):
        (tmp_path / "sr" / os.fsdecode(name)).touch()
    pairs, left_out = folders("a.png", "a.png")
    assert list(pairs) == ["a", "a\u202fb"]
    why = {Path(name.strip("'")).name: reason for name, reason in left_out.items()}
    assert set(why) == {"pipe.png", "lost.png", r"a\udcff.png", r"a\x1b[31m.png"}
    assert why["pipe.png"] == why["lost.png"] == "is no file, or leads to none"
    assert why[r"a\udcff.png"] == why[r"a\x1b[31m.png"] == "has a name that is no text of one line: rename it"


def test_a_folder_within_the_other_is_not_part_of_it(tmp_path):
    for file in ("a.png", "truth/a.png", "saved/a.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    pairs, left_out = find_pairs(tmp_path, tmp_path / "truth", skip=[tmp_path / "saved"])
    assert list(pairs) == ["a"] and not left_out


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        find_pairs(tmp_path / "nowhere", tmp_path)
