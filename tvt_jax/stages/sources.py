"""What a stage starts from: networks of model folders, held against those that it expects, and prompts."""

from typing import Any, get_args

from flax import struct
from jaxtyping import PyTree

from tvt_jax.model_folder import ModelFolder, Part, read_model
from tvt_jax.models.shapes import named_shapes, param_shapes
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig


@struct.dataclass
class Prompt:
    """A text as the UNet takes it; the text itself is no part of the program.

    Attributes:
        embedding: (tokens, width), an array or its shape.
        text: what it says.
    """

    embedding: Any
    text: str = struct.field(pytree_node=False, default="")


def read_source(
    path: str,
    vae: AutoencoderKLConfig | None = None,
    unet: UNet2DConditionConfig | None = None,
    vae_source: AutoencoderKLConfig | None = None,
) -> ModelFolder:
    """Read the networks of a model folder that are asked for, and hold them against what they are expected to be.

    Raises:
        FileNotFoundError: the folder is missing or incomplete.
        ValueError: it holds a network of another shape.
    """
    expected = {"vae": vae, "vae_source": vae_source, "unet": unet}
    parts: list[Part] = [part for part in get_args(Part) if expected[part]]
    folder = read_model(path, parts)
    for part in parts:
        config, found = expected[part], getattr(folder, f"{part}_config")
        assert config is not None  # for the type checker: so the parts were chosen
        if found != config:
            raise ValueError(f"{path} holds {found}, but the stage is configured for {config}")
        _require_shapes(f"{path}/{part}", getattr(folder, part), param_shapes(config))
    return folder


def prompts(folder: ModelFolder) -> dict[str, Prompt]:
    """Give a model folder's two prompts by name."""
    return {
        "prompt": Prompt(folder.prompt_embedding, folder.card.prompt),
        "negative_prompt": Prompt(folder.negative_prompt_embedding, folder.card.negative_prompt),
    }


def _require_shapes(path: str, params: PyTree, expected: PyTree) -> None:
    found, wanted = named_shapes(params), named_shapes(expected)
    if differing := [name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]:
        name = differing[0]
        raise ValueError(
            f"{path}: {len(differing)} tensors are not as its config says, among them {name} "
            f"({found.get(name, 'absent')} in the file, {wanted.get(name, 'absent')} by the config)"
        )
