"""Perceptual distance of two images, by LPIPS and DISTS: what counts in a loss, and what evaluation tells."""

from dataclasses import dataclass

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

    def load(self) -> Params:
        """Read both networks' parameters."""
        return {"lpips": load_lpips(self.lpips_net), "dists": load_dists()}

    def distances(
        self, params: Params, image: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]
    ) -> dict[str, Float[Array, " b"]]:
        """Both distances of each pair of images in [-1, 1]."""
        return {name: self._distance(name, params, image, target) for name in ("lpips", "dists")}

    def weighted(
        self, params: Params, image: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]
    ) -> dict[str, Float[Array, " b"]]:
        """The distances that count, times their weights."""
        weights = {"lpips": self.lpips_weight, "dists": self.dists_weight}
        return {
            name: weight * self._distance(name, params, image, target) for name, weight in weights.items() if weight
        }

    def _distance(self, name: str, params: Params, image: Array, target: Array) -> Array:
        network = LPIPS(self.lpips_net) if name == "lpips" else DISTS()
        return network.apply({"params": params[name]}, image, target)
