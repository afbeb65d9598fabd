"""The peak memory of the transformer block that sees 16,384 tokens: `python -m proofs.attention_memory`.

This is the level that the 4x latent grid adds to the UNet, at an output of 512x512: 5 heads of 64 channels. The figure
is the compiler's own: the temporary memory of the compiled program, without its arguments and results.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from tvt_jax.models.attention import BasicTransformerBlock

SIDE, HEADS, CHANNELS, TOKENS, WIDTH = 128, 5, 320, 77, 1024


def temporary_bytes(*, with_gradient: bool, dtype: jnp.dtype = jnp.float32) -> int:
    """Compile one block at batch 1, forward or with gradients of all inputs and parameters, and read its memory."""
    block = BasicTransformerBlock(HEADS, dtype=dtype)
    image = jax.ShapeDtypeStruct((1, SIDE, SIDE, CHANNELS), dtype)
    text = jax.ShapeDtypeStruct((1, TOKENS, WIDTH), dtype)
    params = jax.eval_shape(block.init, jax.random.key(0), image, text)["params"]

    def forward(params: PyTree, image: Array, text: Array) -> Array:
        return block.apply({"params": params}, image, text)

    def backward(params: PyTree, image: Array, text: Array) -> tuple[PyTree, Array, Array]:
        value, pullback = jax.vjp(forward, params, image, text)
        return pullback(value)

    program = jax.jit(backward if with_gradient else forward).lower(params, image, text).compile()
    analysis = program.memory_analysis()
    if analysis is None:
        raise RuntimeError(f"{jax.default_backend()} does not tell how much memory a program takes")
    return analysis.temp_size_in_bytes


def main() -> None:
    """Print the table of docs/architecture.md."""
    scores = 4 * HEADS * SIDE**4
    print(f"scores, if they were held at once: {scores / 1e9:.2f} GB in float32")
    for dtype in (jnp.float32, jnp.bfloat16):
        for with_gradient in (False, True):
            size = temporary_bytes(with_gradient=with_gradient, dtype=dtype) / 1e9
            print(f"{jnp.dtype(dtype).name:9} {'forward + backward' if with_gradient else 'forward':18} {size:.2f} GB")


if __name__ == "__main__":
    main()
