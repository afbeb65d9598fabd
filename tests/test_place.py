"""What is no path is refused in one sentence at every edge, before anything is loaded or written."""

import sys
from pathlib import Path

import pytest

from convert.__main__ import main as convert
from proofs.toy import ToyStage, toy_config
from tvt_jax.data import prepare
from tvt_jax.evaluation.command import main as evaluate
from tvt_jax.inference.command import main as upscale
from tvt_jax.inference.export import main as export_program
from tvt_jax.model_folder import ModelCard, ModelFolder, read_model, write_model
from tvt_jax.place import check, place
from tvt_jax.train.command import main as train

ROOT = Path(__file__).parents[1]
EVALUATE = "--lr lr --hr hr --out o.json"


@pytest.mark.parametrize("name", ["runs/a", "/a/b", "C:/a", "a:b", "..", "hf", "gs"])
def test_paths_stay_what_they_are(name):
    assert place(name) == Path(name)


@pytest.mark.parametrize("name", ["s3://bucket/run", "s3:/bucket/run", Path("s3://bucket/run")])
def test_the_sentence_names_the_place_and_what_works(name):
    with pytest.raises(ValueError) as error:
        place(name)
    assert str(error.value) == (
        "s3://bucket/run is not supported here: give a path, gs://BUCKET/NAME, or mount the bucket (gcsfuse, for gs://)"
        " and give the path where it is mounted"
    )


@pytest.mark.parametrize("name", ["gs://", "hf://owner/name", "file:///a", "https://a.b/c", "memory://a", "az://c/b"])
def test_other_schemes_are_refused_too(name):
    with pytest.raises(ValueError, match="is not supported here"):
        place(name)
    with pytest.raises(ValueError, match="is not supported here: give a path, or mount"):
        check(name)


def test_a_bucket_without_what_reads_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"gs://b/x needs gcsfs, .* pip install 'tvt-jax\[gcs\]', or mount"):
        place("gs://b/x")


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (train, f"--config={ROOT}/proofs/toy.py --workdir=s3://b/x"),
        (train, f"--config={ROOT}/proofs/toy.py --workdir=s3://b/x --export"),
        (train, f"--config={ROOT}/proofs/toy.py --workdir=w --config.data.path=s3://b/x"),
        (train, f"--config={ROOT}/proofs/toy.py --workdir=w --config.data.lr_path=s3://b/x"),
        (train, f"--config={ROOT}/proofs/toy.py --workdir=w --config.data.mixed=(('s3://b/x',1.0),)"),
        (train, f"--config={ROOT}/proofs/toy.py --workdir=w --config.evaluation.path=s3://b/x"),
        (train, f"--config={ROOT}/proofs/toy.py --workdir=w --config.stage.name=s3://b/x"),
        (evaluate, "--lr s3://b/x --hr hr --out o.json"),
        (evaluate, "--sr sr --hr s3://b/x --out o.json"),
        (evaluate, "--sr sr --hr hr --out s3://b/x"),
        *((evaluate, f"{EVALUATE} --{name} s3://b/x") for name in ("model", "save", "report", "categories")),
        (evaluate, f"{EVALUATE} --against other=s3://b/x"),
        (evaluate, f"{EVALUATE} --follow s3://b/x --config c.py"),
        (evaluate, f"{EVALUATE} --follow w --config s3://b/x"),
        (evaluate, "--lr gs://b/x --hr hr --out o.json"),
        (upscale, "s3://b/x out.png"),
        (upscale, "gs://b/x out.png"),
        (upscale, "hf://b/x out.png"),
        (upscale, "in.png s3://b/x"),
        (upscale, "in.png out.png --model s3://b/x"),
        (export_program, "s3://b/x out"),
        (export_program, "model s3://b/x"),
        (convert, "import --sd s3://b/x --out m"),
        (convert, "import --sd sd --tvt s3://b/x --out m"),
        (convert, "import --sd sd --out gs://b/x"),
        (convert, "import --sd sd --out m --tokenizer s3://b/x"),
        (convert, "export --model s3://b/x --out o"),
        (convert, "export --model m --out s3://b/x"),
        (convert, "verify --model m --reference s3://b/x"),
        (convert, "verify --model s3://b/x --reference r"),
        (convert, "verify --model m --reference r --photo s3://b/x"),
        (convert, "inspect s3://b/x"),
    ],
)
def test_every_command_refuses(main, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOY_IMAGES", "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ToyStage, "load", lambda _: pytest.fail("loaded"))
    assert main(words.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "://b/x is not supported here: give a path" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", ["--images s3://b/x --out o", "--images hdfs://b/x --out o", "--images i --out s3://b/x"]
)
def test_prepare_refuses(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare", *words.split()])
    with pytest.raises(SystemExit, match=r"error: .*://b/x is not supported here: give a path"):
        prepare.main()
    assert not list(tmp_path.iterdir())


def test_a_configuration_in_python_refuses_at_once():
    with pytest.raises(ValueError, match="s3://b/x is not supported here"):
        toy_config("s3://b/x")


def test_model_folders_refuse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"give a path, gs://BUCKET/NAME, hf://OWNER/NAME, or mount"):
        read_model("s3://b/x")
    with pytest.raises(ValueError, match="s3://b/x is not supported here"):
        write_model("s3://b/x", ModelFolder(card=ModelCard()))
    assert not list(tmp_path.iterdir())
