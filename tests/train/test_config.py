import dataclasses
import json

import pytest

from tvt_jax.train.config import differences, load_config, to_json

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
        ("--config.stage.optimiser.name=adamw", "'adamw' is not of type"),
        ("--config.stage.pair=(1, 2)", "is not of type"),
        ("--config.stage=3", "is not of type"),
        ("--config.steps.more=3", "100 has no fields"),
        ("--config.steps", "unknown argument '--config.steps'"),
        ("--steps=3", "unknown argument '--steps=3'"),
        ("--config.log_every=0", "log_every must be at least 1, not 0"),
    ],
)
def test_bad_overrides(file, override, message):
    with pytest.raises(ValueError) as error:
        load_config(file, [override])
    assert message in str(error.value)


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
