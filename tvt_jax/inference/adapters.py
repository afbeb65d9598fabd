"""PiSA-SR's two knobs (arXiv 2412.03017): how much of what each of its adapters does goes into a result."""

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float, PyTree

from tvt_jax.model_folder import keeps_lora, read_card, require_model_folder
from tvt_jax.models.unet import UNet2DConditionModel
from tvt_jax.place import Place


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Factors on the results of the adapters, not on their weights; both 1 is the model as it was trained.

    Attributes:
        pixel: of what the UNet with the first adapter alone gives: the degradation to be taken away.
        semantic: of what the second adapter adds to that: detail.
    """

    pixel: float = 1.0
    semantic: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("pixel", self.pixel), ("semantic", self.semantic)):
            if not 0 <= value < math.inf:
                raise ValueError(f"the {name} strength is {value}: it must be 0 or more")


TRAINED = Strengths()  # the model as it is: one pass through one UNet is enough


@dataclass(frozen=True)
class TwoPasses:
    """A UNet that runs twice, in a network's place: pixel P + semantic (S - P).

    Its parameters are `weights` and `lora`: P is what the weights give, the first adapter in them, and S what they give
    with the LoRA, which is the second.

    Attributes:
        unet: the network.
        strengths: the factors.
    """

    unet: UNet2DConditionModel
    strengths: Strengths

    def apply(self, variables: PyTree, *inputs: Any, method: str | None = None) -> Float[Array, "b h w c"]:
        """Give the sum."""
        held = variables["params"]
        plain = self.unet.apply({"params": held["weights"]}, *inputs, method=method)
        adapted = self.unet.apply({"params": held["weights"], "lora": held["lora"]}, *inputs, method=method)
        return self.strengths.pixel * plain + self.strengths.semantic * (adapted - plain)


def require_adapters(path: Place) -> None:
    """Raise ValueError where a model folder is none that strengths mean something for."""
    require_model_folder(path)
    if not keeps_lora(path) or read_card(path).prediction != "residual":
        raise ValueError(
            f"{path} has no two adapters whose strengths could be chosen: that is for PiSA-SR, as `tvt convert import "
            "--pisasr` writes it"
        )
