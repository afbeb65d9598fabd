"""Hub names, with huggingface_hub's own cache and no network but this machine's."""

import json
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from convert.weights import needed_of_sd, needed_of_tvt
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


FILES = {
    "README.md": b"",
    "model_index.json": b"{}",
    "v2-1_512-ema-pruned.ckpt": b"1",
    "v2-1_512-ema-pruned.yaml": b"parameterization: v",
    "scheduler/scheduler_config.json": b"{}",
    "tokenizer/vocab.json": b"{}",
    "text_encoder/config.json": b"{}",
    "text_encoder/model.fp16.safetensors": b"2",
    "text_encoder/pytorch_model.bin": b"3",
    "text_encoder/model.safetensors": b"4",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json": b"{}",
    "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors": b"5",
    "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors": b"6",
    "unet/diffusion_pytorch_model.fp16.bin": b"7",
    "unet/diffusion_pytorch_model.non_ema.safetensors": b"8",
    "vae/config.json": b"{}",
    "vae/diffusion_pytorch_model.bin": b"9",
    "vae/diffusion_pytorch_model.fp16.safetensors": b"10",
}
NEEDED = {
    *("scheduler/scheduler_config.json", "tokenizer/vocab.json", "text_encoder/config.json"),
    *("text_encoder/model.safetensors", "unet/config.json"),
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model.fp16-00002-of-00002.safetensors",
    *("vae/config.json", "vae/diffusion_pytorch_model.bin"),
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as a download needs."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if name:
            self.answer(FILES[name], **{"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        elif "/tree/" in path:
            entries = [{"type": "file", "path": name, "size": len(x), "oid": name} for name, x in FILES.items()]
            self.answer(json.dumps(entries).encode())
        else:
            siblings = [{"rfilename": name} for name in FILES]
            self.answer(json.dumps({"id": "stability/sd", "sha": COMMIT, "siblings": siblings}).encode())

    do_HEAD = do_GET

    def answer(self, content, **headers):
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("choose", "needed"),
    [
        (needed_of_sd, NEEDED),
        (partial(needed_of_sd, networks=False), {x for x in NEEDED if x.startswith(("text", "token"))}),
        (list, set(FILES)),
    ],
    ids=["Stable Diffusion", "what reads prompts", "all"],
)
def test_one_copy_of_each_part_is_fetched(endpoint, choose, needed):
    folder = fetch("hf://stability/sd", choose)
    fetched = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert fetched == needed
    assert all((folder / name).read_bytes() == FILES[name] for name in needed)


def test_one_file_of_a_repository_is_fetched(endpoint):
    file = fetch("hf://stability/sd/v2-1_512-ema-pruned.ckpt", needed_of_sd)
    assert file.read_bytes() == b"1"
    assert {path.name for path in file.parent.iterdir()} == {file.name, file.with_suffix(".yaml").name}
    component = fetch("hf://stability/sd/vae")
    assert len(list(component.iterdir())) == 3


def test_a_repository_of_other_things_is_named(endpoint):
    with pytest.raises(FileNotFoundError, match="stability/sd on the hub has nothing of what is asked for"):
        fetch("hf://stability/sd", needed_of_tvt)


def test_without_the_library_it_is_said_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'tvt-jax\[hub\]', or download it elsewhere"):
        fetch("hf://owner/name")
