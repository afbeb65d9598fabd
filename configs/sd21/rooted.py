"""The full-size stages with data, models and runs below one place, a bucket or a mounted folder.

python train.py --config=configs/sd21/rooted.py:gs://BUCKET/adapt --workdir=gs://BUCKET/runs/sd21/adapt

PLACE/STAGE is the argument. What the stage's own configuration finds in `data/`, `models/` and `runs/` lies in
PLACE/data, PLACE/models and PLACE/runs.
"""

from dataclasses import replace

from configs.places import SOURCES
from configs.sd21 import adapt, adapt_further, decoder, encoder, osediff
from tvt_jax.data.pipeline import DataConfig
from tvt_jax.train.config import TrainConfig

STAGES = {"decoder": decoder, "encoder": encoder, "adapt": adapt, "adapt_further": adapt_further, "osediff": osediff}


def config(name: str) -> TrainConfig:
    """Give a stage below a place, named PLACE/STAGE."""
    root, _, stage = name.rpartition("/")
    if not root or stage not in STAGES:
        raise ValueError(f"{name!r} is not PLACE/STAGE, with a stage of {', '.join(STAGES)}")
    base = STAGES[stage].config()
    found = {name: f"{root}/{path}" for name in SOURCES if (path := getattr(base.stage, name, None))}
    assert base.evaluation is not None
    return replace(
        base,
        stage=replace(base.stage, **found),
        data=_below(root, base.data),
        evaluation=_below(root, base.evaluation),
    )


def _below(root: str, data: DataConfig) -> DataConfig:
    mixed = tuple((f"{root}/{path}", weight) for path, weight in data.mixed)
    return replace(data, path=f"{root}/{data.path}", mixed=mixed)
