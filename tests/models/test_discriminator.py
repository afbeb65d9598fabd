import jax
import numpy as np
import pytest
from torch import nn

from tests.models.torch_reference import arrays, assert_agrees, randomised
from tvt_jax.models.discriminator import PatchDiscriminator, PatchDiscriminatorConfig
from tvt_jax.models.keys import tree_from_torch

# A whole network, small: blocks are held to 1e-5, networks to 1e-4.
NETWORK = 1e-4


def patch_gan(width: int, layers: int) -> nn.Sequential:
    """NLayerDiscriminator of CompVis/latent-diffusion, in training mode."""
    modules: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    before = width
    for i in range(1, layers + 1):
        after = width * min(2**i, 8)
        modules += [nn.Conv2d(before, after, 4, 2 if i < layers else 1, 1, bias=False), nn.BatchNorm2d(after)]
        modules.append(nn.LeakyReLU(0.2))
        before = after
    modules.append(nn.Conv2d(before, 1, 4, 1, 1))
    return randomised(nn.Sequential(*modules)).train()


def renamed(tensors: dict[str, np.ndarray], layers: int) -> dict:
    """Ours are conv_i and norm_i, where theirs count all modules; those with a bias are nested."""
    names = {"0": "conv_0.conv", str(3 * layers + 2): f"conv_{layers + 1}.conv"}
    for i in range(1, layers + 1):
        names |= {str(3 * i - 1): f"conv_{i}", str(3 * i): f"norm_{i}"}
    return tree_from_torch({f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in tensors.items()})


@pytest.mark.parametrize(("layers", "size"), [(3, (32, 40)), (5, (97, 96))])
def test_patch_discriminator(layers: int, size: tuple[int, int]):
    model = PatchDiscriminator(PatchDiscriminatorConfig(features=4, layers=layers))
    assert_agrees(
        lambda params, x: model.apply({"params": params}, x),
        patch_gan(4, layers),
        *arrays((2, *size, 3)),
        tolerance=NETWORK,
        tree=lambda tensors: renamed(tensors, layers),
    )


def test_full_size_has_the_published_number_of_parameters():
    model = PatchDiscriminator(PatchDiscriminatorConfig())
    params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    ours = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert ours == sum(parameter.numel() for parameter in patch_gan(64, 3).parameters()) == 2_765_633
