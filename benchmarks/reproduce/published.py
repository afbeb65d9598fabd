"""Figures that others published, by set; what they did not publish is not here."""

Figures = dict[str, float]

# 128 to 512 pixels, luma for PSNR and SSIM. TVT's and PiSA-SR's are as papers quote them, OSEDiff's its authors' own.
PUBLISHED: dict[str, dict[str, Figures]] = {
    "realsr": {
        "TVT, published": {"lpips-alex": 0.2597, "dists": 0.2061},
        "PiSA-SR, published": {
            "psnr-y": 25.50,
            "ssim-y": 0.7418,
            "lpips-alex": 0.2672,
            "dists": 0.2044,
            "niqe": 5.50,
        },
        "OSEDiff, published": {
            "psnr-y": 25.15,
            "ssim-y": 0.7341,
            "lpips-alex": 0.2921,
            "dists": 0.2128,
            "niqe": 5.65,
        },
    },
    "drealsr": {
        "TVT, published": {"psnr-y": 28.27, "lpips-alex": 0.2900, "dists": 0.2205},
        "OSEDiff, published": {"psnr-y": 27.92, "lpips-alex": 0.2968, "dists": 0.2165},
    },
    # Read back by PaddleOCR; ours by RapidOCR, which has its models in another format.
    "omnidoc": {"FLUX.1-dev's 8x VAE, published": {"psnr-rgb": 26.24, "ned": 0.9546}},
}
