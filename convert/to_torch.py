"""Model folder -> PyTorch files."""

import shutil
from pathlib import Path

from convert.tensors import read_safetensors
from tvt_jax.model_folder import is_model_folder, replaced, write_tensors

_NETWORKS = ("vae", "unet", "text_encoder")
_OTHERS = ("tokenizer",)


def export_diffusers(model: Path, out: Path, dtype: str = "float32") -> None:
    """Write the networks as stock diffusers loads them: AutoencoderKL, UNet2DConditionModel; CLIPTextModel, if there.

    Args:
        model: the model folder, by `import`, or by `train.py --export` from a checkpoint of any stage.
        out: the folder to write.
        dtype: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: `model` is not a model folder.
        FileExistsError: `out` holds something.
    """
    if not is_model_folder(model):
        raise FileNotFoundError(f"{model} is not a model folder: `import` makes one, and so does train.py --export")
    with replaced(out) as partial:
        for name in _NETWORKS:
            if (model / name).is_dir():
                _export_network(model / name, partial / name, dtype)
        for name in _OTHERS:
            if (model / name).is_dir():
                shutil.copytree(model / name, partial / name)


def _export_network(source: Path, target: Path, dtype: str) -> None:
    target.mkdir()
    shutil.copy(source / "config.json", target)
    for weights in source.glob("*.safetensors"):
        write_tensors(target / weights.name, read_safetensors(weights), dtype)
