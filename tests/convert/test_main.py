import sys

import pytest

from convert.__main__ import main
from tvt_jax.model_folder import is_model_folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `python -m convert` with these words; gives what it prints."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
        return capsys.readouterr().out

    return run


def test_in_out_and_a_look_inside(run, sd, tmp_path):
    assert run("import", "--sd", sd, "--out", tmp_path / "model") == f"wrote {tmp_path / 'model'}\n"
    assert is_model_folder(tmp_path / "model")
    run("export", "--model", tmp_path / "model", "--out", tmp_path / "out", "--dtype", "bfloat16")
    listed = run("inspect", tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors").splitlines()
    assert "conv_in.weight  4x4x3x3  bfloat16" in listed
    assert listed[-1].startswith(f"{len(listed) - 1} tensors, ")


def test_an_error_is_a_sentence_and_a_status(run, tmp_path):
    with pytest.raises(SystemExit) as error:
        run("import", "--sd", tmp_path / "nothing.ckpt", "--out", tmp_path / "model")
    assert str(error.value) == f"error: {tmp_path / 'nothing.ckpt'} is not there, or is not a file"
    assert not (tmp_path / "model").exists()
