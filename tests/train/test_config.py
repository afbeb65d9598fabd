import dataclasses
import json
from pathlib import Path

import pytest

from configs import claim
from tvt_jax.train.config import check_devices, differences, lengths, load_config, to_json

ROOT = Path(__file__).parents[2]

CONFIG = """
import dataclasses
from typing import Literal
from tvt_jax.train.config import TrainConfig
from tvt_jax.data.pipeline import DataConfig

@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser:
    learning_rate: float = 1e-4
    clip: float | None = 1.0
    name: Literal["adam", "sgd"] = "adam"

@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    optimiser: Optimiser = Optimiser()
    widths: tuple[int, ...] = (32, 64)
    pair: tuple[int, str] = (1, "a")
    folder: str = "model"
    attention: bool = False
    accumulation: int = 1
    evaluated: tuple[str, ...] = ("mse",)
    def problems(self, data): return ["crop=15 must be even"] if data.crop == 15 else []
    def load(self): ...
    def abstract(self): ...
    def hold(self, frozen): ...
    def init(self, rng, frozen): ...
    def step(self, state, frozen, batch, rng): ...
    def evaluate(self, state, frozen, batch): ...
    def export(self, state, frozen): ...

def config():
    return TrainConfig(stage=Stage(), data=DataConfig(path="photos"), steps=100)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    return path


def test_a_file_gives_its_config(file):
    config = load_config(file)
    assert (config.steps, config.data.path, config.stage.optimiser.learning_rate) == (100, "photos", 1e-4)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("steps=10", 10),
        ("data.batch=4", 4),
        ("stage.optimiser.learning_rate=1", 1.0),
        ("stage.optimiser.clip=None", None),
        ("stage.optimiser.clip=0.5", 0.5),
        ("stage.optimiser.name=sgd", "sgd"),
        ("stage.widths=(1, 2, 3)", (1, 2, 3)),
        ("stage.widths=[8]", (8,)),
        ("stage.pair=(2, 'b')", (2, "b")),
        ("stage.folder=a=b", "a=b"),
        ("stage.folder=10", "10"),
        ("stage.attention=True", True),
        ("evaluation=None", None),
    ],
)
def test_overrides(file, override, value):
    found = load_config(file, [f"--config.{override}"])
    for name in override.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.stesp=3", "TrainConfig has no 'stesp'; did you mean steps or stage?"),
        ("--config.stage.optimiser.rate=3", "Optimiser has no 'rate'; its fields are learning_rate, clip, name"),
        ("--config.steps=ten", "--config.steps: 'ten' is not of type int"),
        ("--config.steps=1.5", "'1.5' is not of type int"),
        ("--config.steps=True", "'True' is not of type int"),
        ("--config.stage.optimiser.name=adamw", "'adamw' is not one of adam, sgd"),
        ("--config.stage.pair=(1, 2)", "is not of type"),
        ("--config.stage=3", "is not of type"),
        ("--config.steps.more=3", "100 has no fields"),
        ("--config.steps", "unknown argument '--config.steps'"),
        ("--steps=3", "unknown argument '--steps=3'"),
        ("--config.steps=0", "--config.steps=0 must be at least 1"),
        ("--config.data_shards=-1", "--config.data_shards=-1 must not be negative"),
        ("--config.data.crop=0", "--config.data.crop=0 must be at least 1"),
        ("--config.data.crop=15", "--config.data.crop=15 must be even"),
        ("--config.stage.accumulation=3", "--config.data.batch=16 cannot be taken in stage.accumulation=3 equal parts"),
        ("--config.best=psnr", "--config.best='psnr' needs evaluation images"),
        ("--config.log_every=0", "--config.log_every=0 must be at least 1"),
    ],
)
def test_bad_overrides(file, override, message):
    with pytest.raises(ValueError) as error:
        load_config(file, [override])
    assert message in str(error.value)


@pytest.mark.parametrize("order", [1, -1])
def test_changes_are_made_at_once_whatever_their_order(file, order):
    """One after the other they would pass through crops of 15 pixels, or through a batch that does not divide."""
    file.write_text(file.read_text().replace('path="photos"', 'path="photos", crop=14, scale=2'))
    changes = ["data.batch=9", "stage.accumulation=3", "data.crop=12", "data.scale=3"][::order]
    config = load_config(file, [f"--config.{change}" for change in changes])
    assert (config.data.batch, config.stage.accumulation, config.data.crop, config.data.scale) == (9, 3, 12, 3)


def test_every_problem_is_told_in_a_line_of_its_own(file):
    with pytest.raises(ValueError) as error:
        load_config(file, ["--config.keep=0", "--config.save_every=0"])
    assert str(error.value).splitlines() == [
        "--config.save_every=0 must be at least 1",
        "--config.keep=0 must be at least 1",
    ]


def test_batches_that_do_not_split_over_the_devices(file):
    config = load_config(file, ["--config.data.batch=8"])
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.data, batch=6))
    check_devices(config, 2)
    with pytest.raises(ValueError, match=r"--config\.evaluation\.batch=6 does not split over 4 devices"):
        check_devices(config, 4)
    with pytest.raises(ValueError, match=r"--config\.data\.batch=8 does not split over 3 processes"):
        check_devices(config, 1, processes=3)


def test_a_missing_file_and_one_without_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="no configuration file"):
        load_config(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match=r"must define config\(\) -> TrainConfig"):
        load_config(tmp_path / "empty.py")


def test_differences_leave_out_what_may_change(file):
    before = load_config(file)
    after = load_config(file, ["--config.steps=7", "--config.keep=9", "--config.stage.widths=[1]", "--config.seed=3"])
    assert differences(to_json(before), to_json(after)) == [
        "config.stage.widths: [32, 64] -> [1]",
        "config.seed: 0 -> 3",
    ]


def test_json_names_the_classes(file):
    data = json.loads(json.dumps(to_json(load_config(file))))
    assert data["stage"]["class"] == "Stage"
    assert data["stage"]["optimiser"] == {"class": "Optimiser", "learning_rate": 1e-4, "clip": 1.0, "name": "adam"}


def test_configs_are_frozen(file):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config(file).steps = 3


def test_a_file_may_take_an_argument(file):
    file.write_text(
        file.read_text().replace("def config():", "def config(steps='100'):").replace("steps=100", "steps=int(steps)")
    )
    assert (load_config(file).steps, load_config(f"{file}:7").steps) == (100, 7)
    with pytest.raises(FileNotFoundError, match=r"no configuration file none\.py"):
        load_config("none.py:7")


def test_lengths_scale_every_count_of_steps():
    config = load_config(ROOT / "configs" / "tiny" / "decoder.py")
    half = lengths(config, 0.5)
    assert half["steps"] == half["stage.optimizer.decay_until"] == config.steps // 2
    assert half["stage.adversarial_start"] == config.stage.adversarial_start // 2
    changes = [f"--config.{name}={value}" for name, value in lengths(config, 1e-9).items()]
    assert load_config(ROOT / "configs" / "tiny" / "decoder.py", changes).steps == 1


def test_every_arm_of_the_claim_starts_from_what_was_trained_before():
    made: set[str] = set()
    for arm, stages in claim.STAGES.items():
        for stage in stages:
            config = load_config(f"{ROOT / 'configs' / 'claim.py'}:{arm}/{stage}")
            sources = {value for name, value in vars(config.stage).items() if name.endswith("source") and value}
            assert sources <= made
            made.add(f"{claim.RUNS}/{arm}/{stage}/model")
    with pytest.raises(ValueError, match=r"there is no '4x/vae': choose from before/vae, before/prior, "):
        claim.config("4x/vae")


def test_an_argument_may_be_a_place(file):
    text = file.read_text().replace("def config():", "def config(place):").replace("steps=100", "steps=len(place)")
    file.write_text(text)
    assert load_config(f"{file}:gs://BUCKET/a.py:b").steps == len("gs://BUCKET/a.py:b")


def test_the_full_size_stages_are_found_below_a_place():
    """Each stage starts from the model of the one before, in its own workdir, and nothing lies elsewhere."""
    for root in ("gs://bucket", "/mnt/shared"):
        for name in ("osediff", "decoder", "encoder", "adapt"):
            config = load_config(f"{ROOT / 'configs' / 'sd21' / 'rooted.py'}:{root}/{name}")
            plain = load_config(ROOT / "configs" / "sd21" / f"{name}.py")
            changed = differences(to_json(plain), to_json(config))
            sources = {key: value for key, value in vars(config.stage).items() if key.endswith("source") and value}
            assert sources and all(value.startswith(f"{root}/") for value in sources.values())
            assert config.data.path.startswith(f"{root}/data/") and config.evaluation.path == f"{root}/data/held_out"
            assert all(path.startswith(f"{root}/data/") for path, _ in config.data.mixed)
            assert len(changed) == len(sources) + len(config.data.mixed) + 1  # the evaluation is left out
    assert config.stage.vae_source == f"{root}/runs/sd21/encoder/model"


def test_a_place_without_a_stage():
    with pytest.raises(ValueError, match=r"'gs://bucket' is not PLACE/STAGE, with a stage of decoder, encoder, adapt"):
        load_config(f"{ROOT / 'configs' / 'sd21' / 'rooted.py'}:gs://bucket")
