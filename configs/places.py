"""Where the data and the models of a chain of stages lie, as changes for train.py's command line."""

from pathlib import Path

from tvt_jax.train.config import TrainConfig

SOURCES = ("source", "vae_source", "prior_source", "student_source")


def places(config: TrainConfig, data: Path, runs: Path, depth: int = 1) -> dict[str, object]:
    """Give the paths of the data, and of the models that the stage starts from.

    Args:
        config: of the stage.
        data: folder of `tiles`, `photos` and `text`, as tools/pretrain.py lays them out.
        runs: folder of the chain's workdirs.
        depth: folders of a workdir below `runs` in the configuration's own paths.
    """
    found: dict[str, object] = {
        "data.path": data / "tiles",
        "data.mixed": tuple((str(data / "text"), weight) for _, weight in config.data.mixed),
        "evaluation.path": data / "photos" / "held_out",
        "evaluation.mixed": ((str(data / "text" / "held_out"), 1.0),),
    }
    for name in SOURCES:
        if path := getattr(config.stage, name, None):
            found[f"stage.{name}"] = runs.joinpath(*Path(path).parts[-1 - depth :])
    return found
