import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tvt_jax.losses.vsd import draw_patches, guide, split_patches, vsd_loss

# Float32 against float64, over a few hundred numbers.
CLOSE = {"rtol": 1e-5, "atol": 1e-8}


@pytest.fixture
def latents():
    """A student's latent and what teacher and fake score make of it."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 6, 8, 4)), jnp.float32)


def test_gradient_in_closed_form(latents):
    latent, real, fake = np.asarray(latents, np.float64)
    weight = np.abs(latent - real).mean((1, 2, 3), keepdims=True)
    gradient = jax.jit(jax.grad(vsd_loss))(*latents)
    np.testing.assert_allclose(gradient, 2 / latent.size * (fake - real) / weight, **CLOSE)


def test_the_releases_arithmetic(latents):
    """Guidance on the noise, one-step prediction, weighting and loss, as one-step distillation codes write them."""
    noises = np.random.default_rng(1).normal(size=latents.shape)
    signal, sigma = 0.8, 0.6

    latent = torch.tensor(np.asarray(latents[0], np.float64), requires_grad=True)
    noisy = torch.tensor(np.asarray(latents[1], np.float64))
    text, negative, fake = torch.tensor(noises)
    x0_real = (noisy - sigma * (negative + 7.5 * (text - negative))) / signal
    x0_fake = (noisy - sigma * fake) / signal
    weighting_factor = torch.abs(latent - x0_real).mean(dim=[1, 2, 3], keepdim=True)
    grad = (x0_fake - x0_real) / weighting_factor
    expected = F.mse_loss(latent, (latent - grad).detach())
    expected.backward()

    real, negative, fake = ((latents[1] - sigma * x) / signal for x in jnp.asarray(noises, jnp.float32))
    loss = lambda x: vsd_loss(x, guide(real, negative, 7.5), fake)  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(loss))(latents[0])
    np.testing.assert_allclose(value, expected.item(), **CLOSE)
    np.testing.assert_allclose(gradient, latent.grad, **CLOSE)


def test_guidance(latents):
    conditional, negative, _ = latents
    np.testing.assert_allclose(guide(conditional, negative, 1.0), conditional, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(guide(conditional, negative, 0.0), negative)
    expected = 7.5 * np.asarray(conditional, np.float64) - 6.5 * np.asarray(negative)
    np.testing.assert_allclose(guide(conditional, negative, 7.5), expected, rtol=1e-5, atol=1e-5)


def slices(latent, count):
    """The patches by torch's slicing, left to right and top to bottom, NCHW within."""
    x = torch.tensor(np.asarray(latent)).permute(0, 3, 1, 2)
    height, width = x.shape[2] // count, x.shape[3] // count
    return [
        image[:, i * height : (i + 1) * height, j * width : (j + 1) * width].permute(1, 2, 0).numpy()
        for image in x for i in range(count) for j in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_split_patches(latents, count):
    np.testing.assert_array_equal(split_patches(latents[0], count), slices(latents[0], count))


def test_split_patches_of_a_size_that_does_not_divide(latents):
    with pytest.raises(ValueError, match="a latent of 6x8 cannot be cut into 4x4 patches"):
        split_patches(latents[0], 4)


@pytest.mark.parametrize("drawn", [1, 3, 4])
def test_drawn_patches_are_different_ones_of_each_latent(latents, drawn):
    patches = draw_patches(jax.random.key(0), latents[0], 2, drawn)
    assert patches.shape == (2 * drawn, 3, 4, 4)
    expected = np.array(slices(latents[0], 2))
    found = [int(np.flatnonzero((expected == patch).all((1, 2, 3)))[0]) for patch in np.asarray(patches)]
    of_latents = np.reshape(found, (2, drawn))
    assert (of_latents // 4 == [[0], [1]]).all()
    assert all(len(set(row)) == drawn for row in of_latents.tolist())


@pytest.mark.parametrize("drawn", [0, 5])
def test_more_patches_than_there_are(latents, drawn):
    with pytest.raises(ValueError, match=f"{drawn} patches cannot be drawn from a latent cut into 2x2"):
        draw_patches(jax.random.key(0), latents[0], 2, drawn)


def test_every_patch_is_drawn_as_often_as_others(latents):
    draw = jax.vmap(lambda key: draw_patches(key, latents[0, :1], 2, 1)[0, 0, 0, 0])
    corners = np.asarray(draw(jax.random.split(jax.random.key(0), 400)))
    counts = [int((corners == patch[0, 0, 0]).sum()) for patch in slices(latents[0, :1], 2)]
    assert sum(counts) == 400
    assert min(counts) > 70  # 100 each with a deviation of 9
