"""Image metrics: `psnr`, `ssim`, `lpips` and `dists` against a reference, `niqe` without one.

Each module holds a function of the same purpose on uint8 RGB arrays; the values are those of pyiqa.
"""

# Of all others, and of the stages' own errors and distances, less is better. The last three are pyiqa's.
MORE_IS_BETTER = frozenset({"psnr-y", "psnr-rgb", "ssim-y", "musiq", "maniqa", "clipiqa"})
