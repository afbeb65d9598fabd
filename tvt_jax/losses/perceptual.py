"""Perceptual distance of two images, by LPIPS and DISTS: what counts in a loss, and what evaluation tells."""

from collections.abc import Iterable
from dataclasses import dataclass

from flax import linen as nn
from jaxtyping import Array, Float

from tvt_jax.models.dists import DISTS, load_dists
from tvt_jax.models.perceptual import LPIPS, Net, Params, load_lpips


@dataclass(frozen=True, kw_only=True)
class PerceptualLoss:
    """LPIPS and DISTS, weighted.

    LPIPS compares features place by place; DISTS (arXiv 2004.07728) compares their means and covariances, and so sees
    texture that is like the truth's without lying where the truth's does.

    Attributes:
        lpips_net: backbone of LPIPS.
        lpips_weight: of LPIPS; 0 leaves it out of the loss.
        dists_weight: of DISTS; 0 leaves it out of the loss.
    """

    lpips_net: Net = "vgg"
    lpips_weight: float = 1.0
    dists_weight: float = 0.0

    @property
    def weights(self) -> dict[str, float]:
        """What counts in the loss, by the names of evaluation."""
        weights = dict(zip(self.names, (self.lpips_weight, self.dists_weight), strict=True))
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def names(self) -> tuple[str, str]:
        """Names of both distances."""
        return f"lpips-{self.lpips_net}", "dists"

    def load(self) -> Params:
        """Read both networks' parameters."""
        return dict(zip(self.names, (load_lpips(self.lpips_net), load_dists()), strict=True))

    def distances(
        self,
        params: Params,
        image: Float[Array, "b h w 3"],
        target: Float[Array, "b h w 3"],
        names: Iterable[str] | None = None,
    ) -> dict[str, Float[Array, " b"]]:
        """Give distances of each pair of images in [-1, 1], of both kinds or of those named."""
        networks: dict[str, nn.Module] = dict(zip(self.names, (LPIPS(self.lpips_net), DISTS()), strict=True))
        chosen = self.names if names is None else names
        return {name: networks[name].apply({"params": params[name]}, image, target) for name in chosen}
