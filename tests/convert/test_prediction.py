"""A prior that predicts v has the networks of one that predicts the noise, and would train wrongly without a word."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, PNDMScheduler
from safetensors.numpy import save_file

from convert.__main__ import main
from convert.json_file import LIMIT
from convert.prediction import check_scheduler, check_single_file
from convert.sd import StableDiffusion
from convert.to_model import import_sd
from convert.to_torch import export_diffusers

CASE = Path(__file__).parents[3] / "shared" / "cases" / "weights" / "vpred_scheduler"
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler])
def test_the_scheduler_folder_tells_what_is_predicted(tmp_path, scheduler):
    scheduler(**SD).save_pretrained(tmp_path / "scheduler")
    assert check_scheduler(tmp_path) is None
    scheduler(**SD, prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ValueError, match=r"config\.json asks for prediction_type 'v_prediction', not 'epsilon'"):
        check_scheduler(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"prediction_type": "sample"},
        {"beta_end": 0.02},
        {"beta_schedule": "linear"},
        {"num_train_timesteps": 500},
        {"trained_betas": [0.1, 0.2]},
        {"rescale_betas_zero_snr": True},
    ],
)
def test_another_noise_schedule_is_refused(tmp_path, changed):
    DDPMScheduler(**{**SD, **changed}).save_pretrained(tmp_path / "scheduler")
    with pytest.raises(ValueError, match=f"asks for {next(iter(changed))} .*, which is not trained with here"):
        check_scheduler(tmp_path)


def test_what_the_file_leaves_out_is_what_diffusers_takes(tmp_path):
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    loaded = DDPMScheduler.from_pretrained(tmp_path / "scheduler").config
    with pytest.raises(ValueError, match=f"beta_start {loaded.beta_start}, not .* beta_end {loaded.beta_end}, not"):
        check_scheduler(tmp_path)


def test_a_prior_that_predicts_v_is_not_imported(sd, tmp_path, capsys):
    DDPMScheduler(**SD, prediction_type="v_prediction").save_pretrained(sd / "scheduler")
    assert main(["import", "--sd", str(sd), "--out", str(tmp_path / "model")]) == 1
    said = capsys.readouterr().err
    assert "v_prediction" in said and "take one that predicts the noise, such as stable-diffusion-2-1-base" in said
    assert not (tmp_path / "model").exists()


@pytest.mark.skipif(not CASE.exists(), reason="the shared cases are not here")
def test_the_case_is_refused(sd, tmp_path):
    shutil.copytree(CASE, sd / "scheduler")
    with pytest.raises(ValueError, match="v_prediction"):
        import_sd(sd, tmp_path / "model")


def test_what_cannot_be_known_is_said(sd, tmp_path, capsys):
    assert main(["import", "--sd", str(sd), "--out", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().err
    assert said.startswith(
        f"note: {sd} has no scheduler/scheduler_config.json in it that says what it predicts: it is "
    )
    assert len(said.splitlines()) == 1
    # A model folder, and what comes out of one, predict the noise.
    assert import_sd(tmp_path / "model", tmp_path / "again") == []
    export_diffusers(tmp_path / "model", tmp_path / "out")
    assert import_sd(tmp_path / "out", tmp_path / "again") == []


KOHYA = {"modelspec.architecture": "stable-diffusion-v2-768-v", "modelspec.prediction_type": "v"}


@pytest.mark.parametrize(
    ("name", "metadata", "tensors", "says"),
    [
        ("a.safetensors", KOHYA, {}, "says that it predicts v and not the noise"),
        ("a.safetensors", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, {}, "says that it predicts v"),
        # ComfyUI's: the tensors are empty.
        ("a.safetensors", {"modelspec.predict_key": "v"}, {}, "says that it predicts v and not the noise"),
        ("a.safetensors", {}, {"v_pred": np.zeros(0)}, "says that it predicts v and not the noise"),
        ("a.safetensors", {}, {"ztsnr": np.zeros(0)}, "says that it predicts v and not the noise"),
        ("a.safetensors", {"modelspec.prediction_type": ["v"]}, {}, r"says that it predicts \['v'\] and not"),
        ("v2-1_768-ema-pruned.safetensors", {}, {}, "is called as those of 768 pixels, .* rename it"),
        ("768-v-ema.ckpt", {}, {}, "is called as those of 768 pixels"),
    ],
)
def test_a_single_file_that_says_so_is_refused(name, metadata, tensors, says):
    with pytest.raises(ValueError, match=f"^{name} {says}"):
        check_single_file(Path(name), metadata, tensors)


def test_a_single_file_may_say_nothing():
    note = check_single_file(Path("v2-1_512-ema-pruned.ckpt"), {}, {})
    assert note is not None and note.startswith("v2-1_512-ema-pruned.ckpt has nothing in it that says what it predicts")
    assert check_single_file(Path("a.safetensors"), {"modelspec.prediction_type": "epsilon"}, {}) is None


@pytest.mark.parametrize(
    ("settings", "predicts"),
    [
        ('model:\n  params:\n    parameterization: "v"\n', "v"),
        ("model:\n  params:\n    parameterization: v\n", "v"),
        ("model:\n  params:\n    parameterization: x0\n", "x0"),
        ('model:\n  params:\n    parameterization: "eps"\n', None),
        ("model:\n  params:\n    linear_start: 0.00085\n", None),
    ],
)
def test_settings_beside_a_single_file_are_read(tmp_path, settings, predicts):
    (tmp_path / "a.yaml").write_text(settings)
    if predicts:
        with pytest.raises(ValueError, match=rf"a\.ckpt says that it predicts {predicts} and not the noise"):
            check_single_file(tmp_path / "a.ckpt", {}, {})
    else:
        assert check_single_file(tmp_path / "a.ckpt", {}, {}) is None


def test_of_two_that_say_otherwise_the_one_that_is_not_the_noise_counts(tmp_path):
    (tmp_path / "a.yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    with pytest.raises(ValueError, match="says that it predicts v and not the noise"):
        check_single_file(tmp_path / "a.safetensors", {"modelspec.prediction_type": "epsilon"}, {})


def test_settings_of_nothing_but_lines_take_no_time(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\n" * LIMIT)  # an hour, if each line were read to the end from each other
    assert check_single_file(tmp_path / "a.ckpt", {}, {}) is None


def test_the_metadata_of_a_single_file_is_read(tmp_path):
    keys = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    save_file({keys: np.zeros((320, 1024), np.float32)}, tmp_path / "a.safetensors", metadata=KOHYA)
    with pytest.raises(ValueError, match="says that it predicts v"):
        _ = StableDiffusion(tmp_path / "a.safetensors").unet


def test_the_schedule_is_written_for_diffusers(sd, tmp_path):
    import_sd(sd, tmp_path / "model")
    export_diffusers(tmp_path / "model", tmp_path / "out")
    scheduler = DDPMScheduler.from_pretrained(tmp_path / "out" / "scheduler")
    assert scheduler.config.prediction_type == "epsilon" and scheduler.config.beta_end == 0.012
    assert json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())["clip_sample"] is False
