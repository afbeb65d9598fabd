"""The command as people call it; what it does with each kind of file is tested with `inference`."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tvt_jax
from tests.inference.conftest import compilation_cache, folder  # noqa: F401
from tvt_jax import cli
from tvt_jax.model_folder import write_model


@pytest.fixture
def model(tmp_path, folder):  # noqa: F811
    write_model(tmp_path / "model", folder)
    return tmp_path / "model"


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(np.full((6, 4, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def tvt(monkeypatch, capsys, *arguments):
    """Exit status, stdout and stderr of `tvt`; a message it exits with counts as stderr, as Python does it."""
    monkeypatch.setattr(sys, "argv", ["tvt", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_one_picture(monkeypatch, capsys, tmp_path, model, photo):
    arguments = ["upscale", photo, tmp_path / "new" / "out.jpg", "--model", model, "--scale", "2.5"]
    assert tvt(monkeypatch, capsys, *arguments) == (0, "", "")
    with Image.open(tmp_path / "new" / "out.jpg") as result:
        assert result.size == (10, 15)


def test_all_options(monkeypatch, capsys, tmp_path, model, photo):
    options = "--scale 4 --strength .5 --color-fix wavelet --tile 96 --dtype float32 --device-rows 1 --prompt".split()
    status = tvt(monkeypatch, capsys, "upscale", photo, tmp_path / "a.png", "--model", model, *options, "a photo")
    assert status == (0, "", "")


def test_a_folder_with_a_bad_file(monkeypatch, capsys, tmp_path, model, photo):
    (tmp_path / "in").mkdir()
    photo.rename(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_text("no picture")
    status, out, err = tvt(monkeypatch, capsys, "upscale", tmp_path / "in", tmp_path / "out", "--model", model)
    assert status == 1
    assert out == "" and "bad.png: can't be read as a picture" in err
    assert err.endswith(f"error: 1 of 2 pictures failed:\n  {tmp_path / 'in' / 'bad.png'}\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png", "out.gif"], "error: out.gif: '.gif' isn't an ending that can be written"),
        (["none.png", "out.png"], "error: none.png doesn't exist"),
        (["photo.png", "photo.png"], "error: photo.png is an input and would be overwritten"),
        (["photo.png", "out.png", "--scale", "9"], "error: scale=9.0 is out of range"),
        (["photo.png", "out.png", "--model", "nowhere"], "error: nowhere is not a model folder"),
        (["photo.png", "out.png", "--tile", "1"], "error: tile=1 is too small"),
        (["photo.png", "out.png", "--device-rows", "99"], "error: device_rows=99"),
        (["photo.png", "out.png", "--prompt", "a cat"], "error: this model has no text encoder"),
        (["photo.png", "out.png", "--tagger", "tagger"], "error: tagger is not a tagger folder"),
    ],
)
def test_errors_are_one_sentence(monkeypatch, capsys, tmp_path, model, photo, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--model" not in arguments:
        arguments = [*arguments, "--model", "model"]
    status, _, err = tvt(monkeypatch, capsys, "upscale", *arguments)
    assert status == 1
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_vae_alone_is_an_error(monkeypatch, capsys, tmp_path, photo, folder):  # noqa: F811
    vae = replace(folder, unet=None, unet_config=None, prompt_embedding=None)
    write_model(tmp_path / "vae", vae)
    status, _, err = tvt(monkeypatch, capsys, "upscale", photo, tmp_path / "a.png", "--model", tmp_path / "vae")
    assert (status, "has a VAE but no UNet" in err) == (1, True)


def test_a_wrong_command_line_is_2(monkeypatch, capsys):
    assert tvt(monkeypatch, capsys, "upscale", "--nonsense")[0] == 2


def test_help_comes_without_jax(monkeypatch, capsys):
    status, out, _ = tvt(monkeypatch, capsys, "upscale", "--help")
    assert status == 0
    assert "--color-fix" in out


@pytest.mark.parametrize(
    ("command", "told"), [("train", "--workdir"), ("eval", "--metrics"), ("convert", "import,export,verify,inspect")]
)
def test_an_installed_package_has_every_command(monkeypatch, capsys, command, told):
    status, out, _ = tvt(monkeypatch, capsys, command, "--help")
    assert (status, told in out.replace(" ", "").replace("\n", "")) == (0, True)
    assert f"tvt {command}" in out


def test_the_version_and_the_commands(monkeypatch, capsys):
    assert tvt(monkeypatch, capsys, "--version") == (0, f"tvt {tvt_jax.__version__}\n", "")
    status, out, _ = tvt(monkeypatch, capsys, "--help")
    assert status == 0
    assert all(f"tvt {command} " in out for command in cli.COMMANDS)
    assert tvt(monkeypatch, capsys, "enlarge")[0] == 2


def test_errors_of_training_and_evaluation_leave_with_1(monkeypatch, capsys, tmp_path):
    status, _, err = tvt(monkeypatch, capsys, "train", "--config=none.py", f"--workdir={tmp_path}")
    assert (status, err) == (1, "error: no configuration file none.py\n")
    status, _, err = tvt(monkeypatch, capsys, "eval", "--hr", "none", "--sr", "none", "--out", str(tmp_path / "m.json"))
    assert (status, err.startswith("error: ")) == (1, True)
