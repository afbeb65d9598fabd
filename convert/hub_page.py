"""The front of an exported folder: what diffusers' pipelines ask for, and the page that a hub shows."""

import json
import re
import shutil
from pathlib import Path

from convert.tensors import read_safetensors
from tvt_jax.model_folder import PROMPTS, ModelCard, read_card

PIPELINE = Path(__file__).parent / "exported" / "pipeline.py"
_BASE = "stabilityai/stable-diffusion-2-1-base"
# The hub's names of licences, by how a card's begins or what it has in it.
_LICENCES = {
    r"apache-2\.0": "apache-2.0",
    r"mit\b": "mit",
    r"cc0": "cc0-1.0",
    r"cc-by-4\.0": "cc-by-4.0",
    r".*open rail\+\+-m": "openrail++",
}
# By how a card's source begins; the last where it begins otherwise.
_METHODS = (("OSEDiff", "2406.08177"), ("PiSA-SR", "2412.03017"), ("Transfer VAE Training", "2507.20291"))
_OWN_README = "README.md"
_ELSEWHERE = re.compile(
    r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*"
)  # a picture that lies beside the model, not in the export

_WITH_PIPELINE = """\
```python
from diffusers import DiffusionPipeline
from PIL import Image

pipe = DiffusionPipeline.from_pretrained("FOLDER", custom_pipeline="FOLDER", trust_remote_code=True)
pipe(Image.open("photo.jpg")).images[0].save("large.png")
```

`FOLDER` is this folder, or its name on a hub. `pipeline.py` is in it, and is what `trust_remote_code` trusts. It takes
`color_fix="adain"`, `"wavelet"` or `"none"`, `tile` and `prompt_embeds`.
In tvt-jax: `tvt upscale photo.jpg large.png --model FOLDER`.
"""
_NETWORKS = """\
```python
from diffusers import AutoencoderKL

vae = AutoencoderKL.from_pretrained("FOLDER", subfolder="vae")
```

`FOLDER` is this folder, or its name on a hub. It holds no encoded prompt beside a UNet, so there is no pipeline.
"""
_LIMITS = """\
- Restoration invents plausible detail. Do not read a number plate, or a diagnosis, off an upscaled picture.
- The pipeline takes photos as RGB. It works on results of up to 1024 pixels a side whole, and on larger ones in tiles
  that are blended; each tile's group norms go by that tile alone, so tiles may differ a little in contrast.
"""


def write_front(folder: Path, model: Path) -> None:
    """Write model_index.json, pipeline.py and README.md into an export.

    Args:
        folder: the export, with its networks and its card in it.
        model: the model folder that it was made of; what its own README says goes into the page.
    """
    card = read_card(folder)
    if has_pipeline := (folder / "unet").is_dir() and (folder / PROMPTS).is_file():
        (folder / "model_index.json").write_text(json.dumps(_index(card), indent=2) + "\n")
        shutil.copyfile(PIPELINE, folder / PIPELINE.name)
    own = model / _OWN_README
    story = _below(own.read_text()) if own.is_file() else ""
    (folder / "README.md").write_text(_header(card, has_pipeline) + _body(folder, card, has_pipeline) + story)


def _index(card: ModelCard) -> dict[str, object]:
    """Give what a pipeline is made of: its parts, and the arguments that say how the model is run."""
    return {
        "_class_name": [PIPELINE.stem, "TVTPipeline"],
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "scale": card.scale,
        "smallest_side": card.smallest_side,
        "time_step": card.time_step,
        "posterior": card.posterior,
        "color_fix": card.color_fix,
        "prediction": card.prediction,
    }


def _header(card: ModelCard, has_pipeline: bool) -> str:
    known = (name for pattern, name in _LICENCES.items() if re.match(pattern, card.licence, re.IGNORECASE))
    licence = next(known, "other" if card.licence else "unknown")
    lines = [f"license: {licence}"]
    if licence == "other":
        lines.append(f"license_name: {json.dumps(card.licence, ensure_ascii=False)}")
    if "Stable Diffusion" in card.source + card.licence:
        lines.append(f"base_model: {_BASE}")
    lines += ["library_name: diffusers", *(["pipeline_tag: image-to-image"] if has_pipeline else [])]
    return "\n".join(["---", *lines, "tags: [super-resolution, image-restoration, tvt]", "---", "", ""])


def _body(folder: Path, card: ModelCard, has_pipeline: bool) -> str:
    parts = [name for name in ("vae", "unet", "text_encoder") if (folder / name).is_dir()]
    facts = {
        "enlargement": f"{card.scale} times",
        "time step": card.time_step,
        "prediction": f"the {card.prediction}",
        "latent": f"the posterior's {card.posterior}",
        "colour fix": card.color_fix,
        "prompt": f"`{card.prompt}`" if card.prompt else "none",
        "parameters": ", ".join(f"{name} {_numbers(folder / name):,}" for name in parts),
        "made from": card.source or "unknown",
        "licence": card.licence or "unknown",
    }
    if card.smallest_side:
        facts["smallest side"] = f"{card.smallest_side} pixels: pictures with a smaller result are enlarged first"
    method, paper = next((x for x in _METHODS if card.source.startswith(x[0])), _METHODS[-1])
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"# One-step super-resolution by {method}\n\n"
        "This model enlarges photos and restores them in a single step of diffusion, by\n"
        f"[{method}](https://arxiv.org/abs/{paper}). tvt-jax wrote it for PyTorch and diffusers, 0.30 or newer.\n\n"
        f"## How to run it\n\n{_WITH_PIPELINE if has_pipeline else _NETWORKS}\n"
        f"## Figures\n\n| | |\n|---|---|\n{table}\n\n## Limits\n\n{_LIMITS}"
    )


def _numbers(folder: Path) -> int:
    return sum(tensor.size for file in folder.glob("*.safetensors") for tensor in read_safetensors(file).values())


def _below(text: str) -> str:
    """Give a model folder's README as a part of the page: headings one level down, without its own header."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return "\n" + re.sub(r"^(#+ )", r"#\1", _ELSEWHERE.sub("", text), flags=re.MULTILINE).strip() + "\n"
