"""Photos in tar and Parquet: the same tiles as from a folder, and what is broken or hostile named and counted."""

import importlib.util
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

import tvt_jax.data.archives as archives
from tvt_jax.data.archives import LARGEST_TEXT
from tvt_jax.data.prepare import PrepareConfig, prepare
from tvt_jax.data.sources import distinct_texts, open_source

GENERATOR = np.random.default_rng(0)
PIXELS = [GENERATOR.integers(0, 256, (24, 20, 3), np.uint8) for _ in range(4)]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PHOTOS = [png(pixels) for pixels in PIXELS]


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def write_tar(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]], mode: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=mode) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, rows: list[Any], column: str = "image", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table({"label": list(range(len(rows))), column: rows}), path, **options)
    return path


def struct(data: bytes | None, path: str | None = None) -> dict[str, Any]:
    return {"bytes": data, "path": path}


def config(images: Path, **changes: Any) -> PrepareConfig:
    return PrepareConfig(images=images, out=images.with_name(f"{images.name}_tiles"), crop=16, stride=8, **changes)


def told(images: Path, **changes: Any) -> tuple[dict[str, int], list[str]]:
    """What the manifest says of counts and of what was unreadable."""
    manifest = prepare(config(images, **changes))
    assert manifest
    return manifest["counts"], [message for part in manifest["parts"] for message in part["unreadable"]]


def tiles(images: Path) -> list[np.ndarray]:
    source = open_source(config(images).out)
    return [source[index] for index in range(len(source))]


@pytest.mark.parametrize("mode", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tar_gives_the_tiles_of_the_folder(tmp_path: Path, mode: int):
    """As webdataset writes it: pictures between what belongs to them, in several files, one of which is a part."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, data in enumerate(PHOTOS):
        (folder / f"{number}.png").write_bytes(data)
    for shard in range(2):
        members = [
            member(f"./{number}.{suffix}", data)
            for number in (2 * shard, 2 * shard + 1)
            for suffix, data in (("json", b"{}"), ("png", PHOTOS[number]), ("txt", b"a photo"))
        ]
        write_tar(tmp_path / f"tar/0000{shard}.tar", members, mode)
    assert told(tmp_path / "folder") == told(tmp_path / "tar") != ({}, [])
    assert len(list(config(tmp_path / "tar").out.glob("part_*"))) == 2
    for one, two in zip(tiles(tmp_path / "folder"), tiles(tmp_path / "tar"), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("rows", [PHOTOS, [struct(data) for data in PHOTOS]], ids=["bytes", "struct"])
@pytest.mark.parametrize("group", [1, 3, 100])
def test_parquet_gives_the_tiles_of_the_folder(tmp_path: Path, rows: list[Any], group: int):
    write_tar(tmp_path / "tar/0.tar", [member(f"{i}.png", data) for i, data in enumerate(PHOTOS)])
    write_parquet(tmp_path / "parquet/train-0.parquet", rows, row_group_size=group)
    assert told(tmp_path / "tar") == told(tmp_path / "parquet")
    for one, two in zip(tiles(tmp_path / "tar"), tiles(tmp_path / "parquet"), strict=True):
        np.testing.assert_array_equal(one, two)


def described(images: Path) -> dict[str, str]:
    """The text of each tile, by the grey level of its first pixel."""
    source = open_source(config(images).out, described=True)
    found = [source[index] for index in range(len(source))]
    return {str(item.item[0, 0, 0]): item.text for item in found}  # type: ignore[union-attr]


def grey(level: int) -> bytes:
    return png(np.full((16, 16, 3), level, np.uint8))


TEXTS = {"10": "a dog, a ball", "60": "snow", "110": "", "160": "snow"}


def test_texts_in_tar_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Before or after the image, in either file; those of another key, in a hidden member or a link are none of it."""
    first = [
        member("a.jpg", grey(10)),
        member("a.json", b"{}"),
        member("a.txt", b"a dog,\n a ball"),
        member("b.x.png", grey(60)),
        member("b.txt", b"snow"),
        member("in/b.png", grey(110)),
    ]
    second = [
        member("d.txt", b"snow"),
        member("d.png", grey(160)),
        member("in/d.txt", b"of nothing"),
        member("e.png", grey(210)),
        member(".e.txt", b"hidden"),
    ]
    link = member("e.txt", type=tarfile.SYMTYPE, linkname="d.txt")
    write_tar(tmp_path / "tar/0.tar", first)
    write_tar(tmp_path / "tar/1.tar", [*second, link])
    manifest = prepare(config(tmp_path / "tar", minimum_detail=0.0))
    assert manifest and manifest["texts"] == ["", "a dog, a ball", "snow"]
    (said,) = caplog.messages
    assert "1.tar: 1 texts are left out" in said
    assert described(tmp_path / "tar") == TEXTS | {"210": ""}
    assert distinct_texts(config(tmp_path / "tar").out) == set(manifest["texts"])
    # Shards give the same, and so does a second time.
    for shard in ("1/2", "0/2"):
        theirs = prepare(config(tmp_path / "tar", minimum_detail=0.0, shard=shard))
        assert theirs == manifest


def test_texts_that_are_left_out_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """A text of megabytes is of something else; of archives that a list names the tiles have no texts."""
    long = member("b.txt", b"x" * (LARGEST_TEXT + 1))
    write_tar(
        tmp_path / "tar/0.tar", [member("a.png", grey(10)), member("a.txt", b"a"), member("b.png", grey(60)), long]
    )
    prepare(config(tmp_path / "tar", minimum_detail=0.0))
    assert described(tmp_path / "tar") == {"10": "a", "60": ""}
    assert [f"b.txt: {LARGEST_TEXT + 1} bytes" in said for said in caplog.messages] == [True]
    (tmp_path / "list.txt").write_text("tar/0.tar\n")
    assert "text is left out" not in capsys.readouterr().err
    manifest = prepare(config(tmp_path / "list.txt", minimum_detail=0.0))
    assert manifest and "texts" not in manifest
    assert capsys.readouterr().err.count("its text is left out, as are those of all archives that a list names") == 1


def test_texts_before_the_damage_of_a_tar_are_kept(tmp_path: Path):
    path = write_tar(tmp_path / "tar/a.tar", [member("1.png", grey(10)), member("1.txt", b"a"), member("2.png", b"")])
    path.write_bytes(path.read_bytes().replace(b"2.png", b"X.png", 1))
    prepare(config(tmp_path / "tar", minimum_detail=0.0))
    assert described(tmp_path / "tar") == {"10": "a"}


def test_a_column_of_texts_is_kept_where_it_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = write_parquet(tmp_path / "rows/0.parquet", [struct(grey(int(level))) for level in TEXTS])
    table = parquet.read_table(path).append_column("caption", [[*[*TEXTS.values()][:2], None, "snow"]])
    parquet.write_table(table, path)
    manifest = prepare(config(tmp_path / "rows", minimum_detail=0.0))
    assert manifest and "texts" not in manifest
    assert "the column caption is left out: --text-column caption keeps it" in caplog.text
    with pytest.raises(FileExistsError, match="holds tiles of other photos, texts or settings"):
        prepare(config(tmp_path / "rows", minimum_detail=0.0, text_column="caption"))
    out = tmp_path / "other"
    manifest = prepare(replace(config(tmp_path / "rows", minimum_detail=0.0, text_column="caption"), out=out))
    assert manifest and manifest["texts"] == sorted(set(TEXTS.values()))
    out.rename(config(tmp_path / "more").out)
    assert described(tmp_path / "more") == TEXTS


def test_a_column_that_holds_no_texts_is_told(tmp_path: Path):
    write_parquet(tmp_path / "rows/0.parquet", PHOTOS)
    write_tar(tmp_path / "rows/1.tar", [member("0.png", PHOTOS[0])])
    counts, (message,) = told(tmp_path / "rows", text_column="label")
    assert counts["photos"] == 1 and "0.parquet: the column label holds int64, not text" in message
    (tmp_path / "rows/0.parquet").unlink()
    with pytest.raises(ValueError, match=r"text_column label is for Parquet files, and .*rows holds none"):
        prepare(config(tmp_path / "rows", text_column="label"))


def test_tiles_say_where_they_come_from(tmp_path: Path):
    import tensorflow_datasets as tfds

    write_tar(tmp_path / "tar/a.tar", [member("b/c.png", PHOTOS[0])])
    prepare(config(tmp_path / "tar"))
    (features,) = config(tmp_path / "tar").out.rglob("features.json")
    records = tfds.builder_from_directory(features.parent).as_data_source("train")
    assert [record["name"] for record in records][:2] == [b"a.tar/b/c.png@0,0", b"a.tar/b/c.png@0,4"]


def test_bad_members_of_a_tar_are_named_and_the_others_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 5000)
    outside = tmp_path / "outside.png"
    members = [
        member("good.png", PHOTOS[0]),
        member("text.jpg", b"no image"),
        member("cut.png", PHOTOS[1][:300]),
        member("empty.png"),
        member("link.png", type=tarfile.SYMTYPE, linkname=str(outside)),
        member("hard.png", type=tarfile.LNKTYPE, linkname="good.png"),
        member("folder.png", type=tarfile.DIRTYPE),
        member("pipe.png", type=tarfile.FIFOTYPE),
        member("large.png", bytes(5001)),
        member("line\nbreak.png", b"no image"),
        member("._good.png", b"what a Mac writes beside a file"),
        member("../../outside.png", PHOTOS[2]),
        member("/outside.png", PHOTOS[2]),
        member("good.png", PHOTOS[3]),
    ]
    write_tar(tmp_path / "tar/a.tar", members)
    counts, messages = told(tmp_path / "tar")
    assert counts["photos"] == 4 and counts["unreadable"] == len(messages) == 9
    assert [message.partition(": ")[0] for message in messages] == [
        *(f"a.tar/{name}.{'jpg' if name == 'text' else 'png'}" for name in "text cut empty link hard".split()),
        *("a.tar/folder.png", "a.tar/pipe.png", "a.tar/large.png", r"'a.tar/line\nbreak.png'"),
    ]
    assert "5001 bytes are no photo" in messages[7] and "not a file" in messages[3]
    assert not outside.exists()


def cut_off(data: bytes) -> bytes:
    return data[: 512 + len(PHOTOS[0]) + 700]


def without_end(data: bytes) -> bytes:
    return data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512)


def damaged_header(data: bytes) -> bytes:
    place = data.index(b"1.png")
    return data[:place] + b"X" + data[place + 1 :]


def no_number(data: bytes) -> bytes:
    """A length that is none, under a checksum that is right."""
    place = data.index(b"1.png")
    header = bytearray(data[place : place + 512])
    header[124:136] = b"nonsense1234"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:place] + bytes(header) + data[place + 512 :]


@pytest.mark.parametrize(
    "damage, photos, end",
    [(cut_off, 1, "1 members"), (damaged_header, 1, "1 members"), (no_number, 1, "1 members"), (without_end, 3, "3")],
)
def test_what_a_damaged_tar_hides_is_told(tmp_path: Path, damage: Any, photos: int, end: str):
    """Python's tarfile takes damage in the middle for the end, and says nothing."""
    path = write_tar(tmp_path / "tar/a.tar", [member(f"{i}.png", data) for i, data in enumerate(PHOTOS[:3])])
    path.write_bytes(damage(path.read_bytes()))
    write_tar(tmp_path / "tar/b.tar", [member("b.png", PHOTOS[3])])
    counts, (message,) = told(tmp_path / "tar")
    assert counts["photos"] == photos + 1 and counts["unreadable"] == 1
    assert f"a.tar: cut off or damaged after {end}" in message


@pytest.mark.parametrize("content", [b"", b"no archive" * 100, bytes(300)], ids=["empty", "text", "short"])
@pytest.mark.parametrize("name", ["bad.tar", "bad.parquet"])
def test_what_is_no_archive_is_named(tmp_path: Path, name: str, content: bytes):
    write_tar(tmp_path / "tar/good.tar", [member("0.png", PHOTOS[0])])
    (tmp_path / "tar" / name).write_bytes(content)
    counts, (message,) = told(tmp_path / "tar")
    assert counts["photos"] == 1 and counts["unreadable"] == 1
    assert name in message and "damaged" in message


def test_a_pipe_is_not_waited_for_and_a_missing_archive_ends_the_command(tmp_path: Path):
    write_tar(tmp_path / "tar/good.tar", [member("0.png", PHOTOS[0])])
    os.mkfifo(tmp_path / "tar/pipe.tar")
    counts, (message,) = told(tmp_path / "tar")
    assert counts["photos"] == 1 and message.endswith("pipe.tar: not a file")
    (tmp_path / "tar/gone.tar").symlink_to(tmp_path / "gone.tar")
    with pytest.raises(FileNotFoundError, match=r"gone\.tar"):
        prepare(replace(config(tmp_path / "tar"), out=tmp_path / "other"))


def test_bad_rows_of_parquet_are_named_and_the_others_taken(tmp_path: Path):
    rows = [struct(PHOTOS[0]), None, struct(None), struct(None, "a.png"), struct(b"no image"), struct(PHOTOS[1], "b")]
    write_parquet(tmp_path / "rows/0.parquet", rows)
    write_parquet(tmp_path / "rows/1.parquet", ["text", "for an image"])
    write_parquet(tmp_path / "rows/2.parquet", PHOTOS, column="photo")
    counts, messages = told(tmp_path / "rows")
    assert counts["photos"] == 2 and counts["unreadable"] == 7
    assert messages[:4] == [
        "0.parquet/1: no image",
        "0.parquet/2: no image",
        "0.parquet/3: names a.png, but the image is not in the file",
        "0.parquet/4: not an image",
    ]
    assert messages[4] == "1.parquet/0: str, not the bytes of an image"
    assert "2.parquet: no column image; --column may be one of label, photo" in messages[6]


def test_the_column_can_be_named(tmp_path: Path):
    write_parquet(tmp_path / "rows/0.parquet", PHOTOS, column="photo")
    assert told(tmp_path / "rows", column="photo")[0]["photos"] == len(PHOTOS)


@pytest.mark.parametrize("checked", [False, True], ids=["header", "checksum"])
def test_what_a_damaged_parquet_hides_is_told(tmp_path: Path, checked: bool):
    """Groups of rows are damaged apart. Pixels are only known to be damaged where the file has checksums."""
    options = {"row_group_size": 1, "use_dictionary": False, "write_page_checksum": checked, "write_statistics": False}
    path = write_parquet(tmp_path / "rows/0.parquet", PHOTOS, **options)
    page = parquet.ParquetFile(path).metadata.row_group(2).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    start = data.index(PHOTOS[2][500:520]) if checked else page
    data[start : start + 8] = bytes(8)
    path.write_bytes(data)
    counts, (message,) = told(tmp_path / "rows")
    assert counts["photos"] == 3 and counts["unreadable"] == 1
    assert message.startswith("0.parquet/2: damaged, and lost with what follows before row 3: ")


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_read_that_fails_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """What a disk or network does not give now may come later: the part is not written without it."""
    write_tar(tmp_path / "a.tar", [member("0.png", PHOTOS[0])])
    write_parquet(tmp_path / "a.parquet", PHOTOS)
    file = BrokenFile((tmp_path / name).read_bytes())
    monkeypatch.setattr(Path, "open", lambda *_: file)
    with pytest.raises(OSError, match="broken disk"):
        list(archives.photos_in(tmp_path / name, tmp_path, archives.Columns("image")))


class BrokenFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError(5, "broken disk")


def test_images_beside_archives_are_refused(tmp_path: Path):
    write_tar(tmp_path / "both/a.tar", [member("0.png", PHOTOS[0])])
    (tmp_path / "both/0.png").write_bytes(PHOTOS[0])
    with pytest.raises(ValueError, match="holds both images"):
        prepare(config(tmp_path / "both"))


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_parquet(tmp_path / "rows/0.parquet", PHOTOS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'tvt-jax\[parquet\]'"):
        prepare(config(tmp_path / "rows"))
