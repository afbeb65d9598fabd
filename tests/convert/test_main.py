import pytest

from convert.__main__ import main
from tvt_jax.model_folder import is_model_folder


@pytest.fixture
def run(capsys):
    """Runs `python -m convert` with these words; gives what it prints."""

    def run(*words, expected=0):
        status = main([*map(str, words)])
        printed = capsys.readouterr()
        assert status == expected, printed.err
        return printed.out or printed.err

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
    said = run("import", "--sd", sd, "--out", tmp_path / "model", "--keep-lora", expected=1)
    assert said == "error: --keep-lora is for --tvt: Stable Diffusion has no LoRA\n"


@pytest.mark.parametrize(("pixels", "status", "verdict"), [(2e-3, 0, "they agree"), (0, 1, "they differ")])
def test_a_release_is_verified(run, sd, release, photo, tmp_path, pixels, status, verdict):
    run("import", "--tvt", release, "--sd", sd, "--out", tmp_path / "model")
    words = ["--model", tmp_path / "model", "--reference", release, "--photo", photo, "--side", 64]
    assert verdict in run("verify", *words, "--pixel-tolerance", pixels, expected=status)


def test_an_error_is_a_sentence_and_a_status(run, tmp_path):
    said = run("import", "--sd", tmp_path / "nothing.ckpt", "--out", tmp_path / "model", expected=1)
    assert said == f"error: {tmp_path / 'nothing.ckpt'} is not there, or is not a file\n"
    assert not (tmp_path / "model").exists()
