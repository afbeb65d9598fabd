"""Interrupted, ended or full: nothing hidden stays, and one sentence says what is needed."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convert import to_model
from convert.__main__ import main
from convert.layout import Finite
from convert.room import room_for
from convert.to_model import import_sd
from convert.to_torch import export_diffusers, export_tvt
from tests.convert.small import PARTS, random_tensors, save
from tvt_jax.files import whole_folder
from tvt_jax.model_folder import read_model, write_model

Usage = namedtuple("Usage", "total used free")
# Writes a folder, and says so, until it is ended.
WRITER = """
import sys, time
from pathlib import Path
from tvt_jax.files import whole_folder
with whole_folder(Path(sys.argv[1])) as partial:
    (partial / "weights").write_bytes(bytes(1000))
    print(partial, flush=True)
    time.sleep(60)
"""


def start_writer(path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


def test_leftovers_of_a_killed_writer_are_taken_away(tmp_path):
    process, partial = start_writer(tmp_path / "model")
    assert partial.is_dir()
    with whole_folder(tmp_path / "model") as other:
        assert partial.is_dir()  # its writer lives
        (other / "file").touch()
    process.kill()
    process.communicate()
    assert (partial / "weights").is_file()
    with whole_folder(tmp_path / "model") as other:
        (other / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]


@pytest.mark.parametrize("has_new", [False, True])
def test_an_older_folder_comes_back_that_was_killed_between_two_renames(tmp_path, has_new):
    (tmp_path / ".model.abcd_123.old").mkdir()
    (tmp_path / ".model.abcd_123.old" / "before").touch()
    (tmp_path / ".other.abcd_123.part").mkdir()
    if has_new:
        (tmp_path / "model").mkdir()
    with pytest.raises(KeyError), whole_folder(tmp_path / "model"):
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.abcd_123.part", "model"]
    assert (tmp_path / "model" / "before").exists() is not has_new


def test_folders_of_others_stay(tmp_path):
    names = [
        ".model.backup",
        ".model.part",
        ".model.backup-of-mine.part",
        ".model2.abcd_123.part",
        "model.a2345678.part",
    ]
    for name in names:
        (tmp_path / name).mkdir()
    with whole_folder(tmp_path / "model"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "model"])


IMPORT = """
import sys, time
from convert import to_model
from convert.__main__ import main
write = to_model.write_parts
def slow(folder, *rest):
    write(folder, *rest)
    print(folder, flush=True)
    time.sleep(60)
to_model.write_parts = slow
sys.exit(main(["import", "--sd", sys.argv[1], "--out", sys.argv[2]]))
"""


@pytest.mark.parametrize(
    ("ending", "status", "says"),
    [(signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, ""), (signal.SIGINT, 130, "interrupted\n")],
)
def test_an_import_that_is_ended_leaves_no_trace(sd, tmp_path, ending, status, says):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", IMPORT, sd, tmp_path / "model"]
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment)
    assert Path(process.stdout.readline().strip()).is_dir()
    process.send_signal(ending)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (status, says)
    assert [path.name for path in tmp_path.iterdir()] == ["sd"]


def test_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    assert main(["inspect", "nothing"]) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_too_little_room_is_said_before_anything_is_written(sd, tmp_path, monkeypatch, capsys):
    bytes_needed = 4 * sum(x.size for config in PARTS.values() for x in random_tensors(config).values())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, bytes_needed - 1))
    assert main(["import", "--sd", str(sd), "--out", str(tmp_path / "new" / "model")]) == 1
    said = capsys.readouterr().err
    needs = f"error: {tmp_path / 'new' / 'model'} needs {bytes_needed:,} bytes, and there are {bytes_needed - 1:,} free"
    assert said == f"{needs}: nothing was written\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_that_runs_full_is_said(sd, tmp_path, monkeypatch, code):
    def full(folder, *rest):
        (folder / "part").write_bytes(b"0")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(to_model, "write_parts", full)
    with pytest.raises(OSError, match=r"model needs [\d,]+ bytes, and the disk or its quota was full before that"):
        import_sd(sd, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["sd"]


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), room_for(tmp_path, 1):
        raise PermissionError


def without_middle(folder):
    """The same model on a VAE as the release has it."""
    parts = {part: {k: v for k, v in tree.items() if k != "mid_block"} for part, tree in folder.vae.items()}
    return replace(folder, vae_config=replace(folder.vae_config, mid_block=False), vae=parts)


def test_exports_look_for_room_too(sd, tmp_path, monkeypatch):
    import_sd(sd, tmp_path / "imported")
    write_model(tmp_path / "model", without_middle(read_model(tmp_path / "imported")))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 5))
    for export in (export_diffusers, export_tvt):
        with pytest.raises(OSError, match=r"out needs [\d,]+ bytes, and there are 5 free"):
            export(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_numbers_that_are_none_are_refused_by_name(sd, tensors, tmp_path, part, number):
    name = list(tensors[part])[3]
    tensors[part][name].flat[-1] = number
    stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    save(sd / part / f"{stem}.safetensors", tensors[part])
    with pytest.raises(ValueError, match=f"{part}: {name} holds NaN or infinite numbers"):
        import_sd(sd, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["sd"]


def test_numbers_that_are_too_large_for_the_type_are_refused_by_name(sd, tmp_path):
    import_sd(sd, tmp_path / "model")
    folder = without_middle(read_model(tmp_path / "model"))
    folder.unet["conv_in"]["bias"][1] = 70000
    write_model(tmp_path / "large", folder)
    with pytest.raises(ValueError, match=r"unet: conv_in\.bias has numbers too large for float16: take a wider type"):
        export_diffusers(tmp_path / "large", tmp_path / "out", "float16")
    export_diffusers(tmp_path / "large", tmp_path / "out", "bfloat16")
    folder.unet["conv_in"]["bias"][1] = np.nan
    write_model(tmp_path / "large", folder)
    for export in (export_diffusers, export_tvt):
        with pytest.raises(ValueError, match=r"conv_in\S* holds NaN"):
            export(tmp_path / "large", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_prompts_that_are_broken_are_refused(sd, tmp_path):
    import_sd(sd, tmp_path / "model")
    file = tmp_path / "model" / "prompt_embedding.safetensors"
    held = load_file(file)
    for content, says in (
        ({"prompt": held["prompt"] * np.float32(np.nan)}, "prompt holds NaN or infinite numbers"),
        ({"prompt": held["prompt"][:, :3]}, "has 'prompt' of shape (77, 3), which is no prompt that this UNet reads"),
        ({"other": held["prompt"]}, "has 'other' of shape (77, 6), which is no prompt"),
        ({}, "is cut short, damaged or no safetensors file"),
    ):
        if content:
            save_file({name: np.ascontiguousarray(x) for name, x in content.items()}, file)
        else:
            file.write_bytes(bytes(5))
        for use in (export_diffusers, import_sd):
            with pytest.raises(ValueError, match=re.escape(says)):
                use(tmp_path / "model", tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", ["vae", "vae/config.json", "unet/diffusion_pytorch_model.safetensors"])
def test_a_model_folder_that_is_not_whole_is_refused(sd, tmp_path, lost):
    import_sd(sd, tmp_path / "model")
    path = tmp_path / "model" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for use in (export_diffusers, import_sd):
        with pytest.raises(FileNotFoundError, match=lost.split("/")[0]):
            use(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_stays_and_what_it_leads_to_is_written(sd, tmp_path):
    """It may lead to a larger disk."""
    (tmp_path / "large").mkdir()
    (tmp_path / "model").symlink_to("large")
    import_sd(sd, tmp_path / "model")
    assert (tmp_path / "model").is_symlink() and (tmp_path / "large" / "tvt.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"large", "model", "sd"}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_finite_numbers_pass_as_they_are(dtype):
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    finite = Finite(array, "a")
    assert finite.shape == (2, 3)
    np.testing.assert_array_equal(np.asarray(finite), array, strict=True)
    with pytest.raises(ValueError, match="too large"):
        np.asarray(Finite(np.array([1e300]), "a"), np.float32)
