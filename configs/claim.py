"""The claim, arm by arm: one-step restoration through four VAEs, on the same data and with the same products computed.

python -m benchmarks.claim --out runs/claim trains and measures them all; one stage of one arm alone is
python train.py --config=configs/claim.py:transfer/adapt --workdir=runs/claim/transfer/adapt

`8x` adapts the prior as it is, on the 8x VAE (the layout of OSEDiff). `transfer` is TVT. `scratch` has a 4x VAE trained
from nothing, in a space that the prior does not know. `wide` has an 8x VAE with four times the latent channels,
which holds as many numbers a pixel as a 4x one, and a prior of its own.
"""

from dataclasses import replace
from typing import Any

from configs.tiny import adapt, decoder, encoder, prior, vae
from configs.tiny.shapes import PRIOR, STUDENT, VAE_D4, VAE_D8
from tvt_jax.train.config import TrainConfig

RUNS = "runs/claim"
WIDE = replace(VAE_D8, latent_channels=4 * VAE_D8.latent_channels)
WIDE_PRIOR = replace(PRIOR, latent_channels=WIDE.latent_channels)

# Arm -> its stages, each with its share of the products; `before` is what all arms of a kind have been given.
STAGES = {
    "before": {"vae": 1.0, "prior": 0.5},
    "wide_before": {"vae": 1.0, "prior": 0.5},
    "8x": {"adapt": 2.0},
    "transfer": {"decoder": 0.5, "encoder": 0.3, "adapt": 1.2},
    "scratch": {"vae": 0.8, "adapt": 1.2},
    "wide": {"adapt": 2.0},
}
ARMS = ("8x", "transfer", "scratch", "wide")
_BASES = {"vae": vae, "prior": prior, "decoder": decoder, "encoder": encoder, "adapt": adapt}


def config(name: str) -> TrainConfig:
    """Give a stage of an arm, named ARM/STAGE."""
    arm, _, stage = name.partition("/")
    if stage not in STAGES.get(arm, ()):
        known = ", ".join(f"{arm}/{stage}" for arm, stages in STAGES.items() for stage in stages)
        raise ValueError(f"there is no {name!r}: choose from {known}")
    base = _BASES[stage].config()
    changed: Any = replace(base.stage, **_changes(arm, stage))
    return replace(base, stage=changed)


def _changes(arm: str, stage: str) -> dict[str, Any]:
    wide = arm.startswith("wide")
    before, unet = ("wide_before", WIDE_PRIOR) if wide else ("before", PRIOR)
    eight = WIDE if wide else VAE_D8
    match stage:
        case "vae":
            return {"vae": VAE_D4 if arm == "scratch" else eight}
        case "prior":
            return {"unet": unet, "vae": eight, "source": _model(before, "vae")}
        case "decoder":
            return {"source": _model(before, "vae")}
        case "encoder":
            return {"source": _model(arm, "decoder")}
    vaes = {"transfer": _model(arm, "encoder"), "scratch": _model(arm, "vae")}
    return {
        "vae": VAE_D4 if arm in vaes else eight,
        "vae_source": vaes.get(arm, _model(before, "vae")),
        "prior": unet,
        "prior_source": _model(before, "prior"),
        "student": STUDENT if arm in vaes else unet,
        "student_source": None,
    }


def _model(arm: str, stage: str) -> str:
    return f"{RUNS}/{arm}/{stage}/model"
