"""What a Stable Diffusion predicts: the noise is what is trained with here, and the networks do not tell it from v."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.json_file import LIMIT, read_json
from convert.mapped import Refusal, brief, map_file, naming, printable
from tvt_jax.diffusion import NoiseSchedule

_CONFIG = Path("scheduler") / "scheduler_config.json"
# What diffusers' schedulers take where the file says nothing.
_DEFAULTS = {
    "prediction_type": "epsilon",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}
_SCHEDULE = NoiseSchedule()
_OURS = {
    "prediction_type": "epsilon",
    "beta_start": _SCHEDULE.beta_start,
    "beta_end": _SCHEDULE.beta_end,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": _SCHEDULE.steps,
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}
_WAY_OUT = "take one that predicts the noise, such as stable-diffusion-2-1-base (v2-1_512-ema-pruned)"
# Marks that v-predicting single files carry: the model's own names, and a tensor that user interfaces look for.
_V_NAMES = re.compile(r"768-v-|v2-[01]_768")
_V_TENSORS = ("v_pred", "ztsnr")  # the latter tells of another noise schedule, which goes with it
_V_SETTING = re.compile(rb"^[ \t]*parameterization:[ \t]*[\"']?(\w+)", re.MULTILINE)
# In which safetensors say it: by the standard's name (modelspec), and by ComfyUI's.
_METADATA = ("modelspec.prediction_type", "modelspec.predict_key")


def write_scheduler(folder: Path) -> None:
    """Write what the networks here predict, for diffusers."""
    (folder / _CONFIG).parent.mkdir()
    config = {"_class_name": "DDPMScheduler", **_OURS, "clip_sample": False}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def check_scheduler(folder: Path) -> str | None:
    """Check that a diffusers folder predicts the noise, by its scheduler; give a note where it has none.

    Raises:
        ValueError: it predicts something else, or was trained with another noise schedule.
    """
    file = folder / _CONFIG
    if not file.is_file():
        return _note(folder, f"no {_CONFIG} in it")
    config = {**_DEFAULTS, **read_json(file)}
    if other := [
        f"{name} {brief(config[name])}, not {value!r}" for name, value in _OURS.items() if config[name] != value
    ]:
        raise ValueError(f"{file} asks for {'; '.join(other)}, which is not trained with here: {_WAY_OUT}")
    return None


def check_single_file(file: Path, metadata: Mapping[str, Any], names: Mapping[str, Any]) -> str | None:
    """Check as `check_scheduler` what a single file says of itself; give a note where it says nothing.

    Raises:
        ValueError: it says that it predicts v, by its metadata (modelspec), Latent Diffusion's settings beside it, a
            tensor or its name.
    """
    found = [*(metadata.get(key) for key in _METADATA), _setting(file.with_suffix(".yaml"))]
    said = [str(prediction) for prediction in found if prediction]
    if str(metadata.get("modelspec.architecture", "")).endswith("-v") or any(name in names for name in _V_TENSORS):
        said.append("v")
    with naming(file):
        if others := [prediction for prediction in said if prediction != "epsilon"]:
            what = printable(others[-1])
            raise Refusal(f"says that it predicts {what} and not the noise, which is not trained with here: {_WAY_OUT}")
        if _V_NAMES.search(file.name):
            raise Refusal(
                f"is called as those of 768 pixels, which predict v and not the noise: {_WAY_OUT}; "
                "if this one predicts the noise all the same, rename it"
            )
    return None if said else _note(file, "nothing in it")


def _setting(file: Path) -> str | None:
    """Give what the settings that belong to a single file say: Latent Diffusion predicts the noise unless told."""
    if not file.is_file():
        return None
    found = _V_SETTING.search(bytes(map_file(file)[:LIMIT]))
    return "epsilon" if not found or found[1] == b"eps" else found[1].decode()


def _note(origin: Path, what: str) -> str:
    return (
        f"{origin} has {what} that says what it predicts: it is taken to predict the noise, as 2.1-base does; "
        "Stable Diffusion 2.1 of 768 pixels has the same networks and predicts v, which would train wrongly"
    )
