"""Stage 3 at full size from the released TVT on: an imported UNet of the student's shape is trained further.

python -m convert import --tvt CKP_DIR --sd SD_DIR --out models/tvt
python train.py --config=configs/sd21/adapt_further.py --workdir=runs/sd21/adapt_further
"""

from dataclasses import replace

from configs.sd21 import adapt
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.train.config import TrainConfig

RELEASE = "models/tvt"


def config() -> TrainConfig:
    base = adapt.config()
    assert isinstance(base.stage, AdaptStage)
    return replace(base, stage=replace(base.stage, vae_source=RELEASE, student_source=RELEASE))
