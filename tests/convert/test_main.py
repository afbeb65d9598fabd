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


def test_a_look_inside_the_releases_lora(run, release):
    listed = run("inspect", release / "model_TVT.pkl").splitlines()
    assert "conv_in.lora_A.default_encoder.weight  4x4x3x3  float32" in listed
    assert listed[-1].startswith("6 tensors, ")


def test_lora_is_kept_apart_only_where_there_is_some(run, sd, tmp_path):
    with pytest.raises(SystemExit, match="error: --keep-lora is for --tvt: Stable Diffusion has no LoRA"):
        run("import", "--sd", sd, "--out", tmp_path / "model", "--keep-lora")


@pytest.mark.parametrize(("pixels", "verdict"), [(2e-3, "they agree"), (0, "they differ")])
def test_a_release_is_verified(run, sd, release, photo, tmp_path, pixels, verdict, capsys):
    run("import", "--tvt", release, "--sd", sd, "--out", tmp_path / "model")
    words = ["--model", tmp_path / "model", "--reference", release, "--photo", photo, "--side", 64]
    if verdict == "they agree":
        assert verdict in run("verify", *words, "--pixel-tolerance", pixels)
    else:
        with pytest.raises(SystemExit) as error:
            run("verify", *words, "--pixel-tolerance", pixels)
        assert error.value.code == 1
        assert verdict in capsys.readouterr().out


def test_an_error_is_a_sentence_and_a_status(run, tmp_path):
    with pytest.raises(SystemExit) as error:
        run("import", "--sd", tmp_path / "nothing.ckpt", "--out", tmp_path / "model")
    assert str(error.value) == f"error: {tmp_path / 'nothing.ckpt'} is not there, or is not a file"
    assert not (tmp_path / "model").exists()
