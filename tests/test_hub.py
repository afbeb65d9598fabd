"""Hub names, with huggingface_hub's own cache and no network."""

import sys

import pytest
from huggingface_hub import constants

from tvt_jax.hub import fetch
from tvt_jax.model_folder import read_model

COMMIT = "0123456789" * 4


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """A cache in which OWNER/NAME was downloaded before."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    (folder / "ckp").mkdir(parents=True)
    (folder / "ckp" / "vae.ckpt").write_bytes(b"0")
    return folder


@pytest.mark.parametrize("path", ["a", "/a/b", "hf", "hf:c"])
def test_paths_stay_as_they_are(path):
    assert str(fetch(path)) == path


@pytest.mark.parametrize("name", ["hf://owner/name{}", "hf:/owner/name{}"])
@pytest.mark.parametrize("inside", ["", "/", "/ckp", "/ckp/", "/ckp/vae.ckpt"])
def test_names_are_where_they_were_downloaded_to(hub, name, inside):
    assert fetch(name.format(inside)) == hub / inside.strip("/")


def test_what_the_repository_lacks_is_named():
    with pytest.raises(FileNotFoundError, match="owner/name on the hub has no other/file"):
        fetch("hf://owner/name/other/file")


@pytest.mark.parametrize("name", ["hf://", "hf://owner", "hf://owner/", "hf://o wner/n@me"])
def test_names_of_another_form_are_refused(name):
    with pytest.raises(ValueError, match="is not a name on the hub"):
        fetch(name)


def test_without_a_network_it_is_said_what_to_do():
    sentence = r"hf://other/name could not be fetched \(.+\): where there is no network, download it elsewhere"
    with pytest.raises(FileNotFoundError, match=sentence):
        read_model("hf://other/name")


def test_without_the_library_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'tvt-jax\[hub\]', or download it elsewhere"):
        fetch("hf://owner/name")
