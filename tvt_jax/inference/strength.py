"""How much of a restoration is taken: from the enlarged input to all of it."""

import numpy as np
from jaxtyping import UInt

from tvt_jax.inference.channels import enlarge

Strength = float | int

# Rows that are blended at a time: floats need four times the memory.
_STRIP = 256


def check_strength(strength: Strength) -> Strength:
    """`strength`, or ValueError if it is out of range."""
    if not 0 <= strength <= 1:
        raise ValueError(
            f"strength={strength:g} is out of range, use 0 (the enlarged input) to 1 (all of the restoration)"
        )
    return strength


def blend(
    restored: UInt[np.ndarray, "H W c"], image: UInt[np.ndarray, "h w c"], strength: Strength
) -> UInt[np.ndarray, "H W c"]:
    """Blend a restored picture with its input, enlarged to the same size (bicubic).

    Pictures are blended and not latents: 0 is then exactly the enlarged input, and whoever has both pictures has every
    strength between them without computing anything again.

    Args:
        restored: uint8 or uint16.
        image: the input, of the same depth and channels.
        strength: 0 is the enlarged input, 1 is `restored`.
    """
    if strength == 1:
        return restored
    result = enlarge(image, restored.shape[:2])
    for top in range(0, len(result), _STRIP):
        rows = slice(top, top + _STRIP)
        below = result[rows].astype(np.float32)
        result[rows] = np.rint(below + np.float32(strength) * (restored[rows].astype(np.float32) - below))
    return result
