"""Image metrics: `psnr`, `ssim`, `lpips` and `dists` against a reference, `niqe` without one.

Each module holds a function of the same purpose on RGB arrays of uint8 or uint16; the values are those of pyiqa.
"""

# Of a stage's own errors and distances, which stand in neither, less is better. Some are pyiqa's.
MORE_IS_BETTER = frozenset({"psnr-y", "psnr-rgb", "ssim-y", "ssim-rgb", "musiq", "maniqa", "clipiqa"})
LESS_IS_BETTER = frozenset({"lpips-alex", "lpips-vgg", "dists", "niqe", "fid"})
