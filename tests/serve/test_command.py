"""The command from its words to its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import pytest

from tests.inference.conftest import compilation_cache, folder  # noqa: F401
from tests.serve.conftest import photo, png
from tests.test_project import LIBRARY, imports, module_name, within
from tvt_jax.model_folder import write_model
from tvt_jax.serve.command import main


@pytest.fixture
def model(tmp_path, folder):  # noqa: F811
    write_model(tmp_path / "model", folder)
    return tmp_path / "model"


def test_it_does_not_listen_beyond_this_machine_unless_told(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "127.0.0.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--port 99999", "port=99999 is out of range"),
        ("--host nowhere.invalid", "can't listen at nowhere.invalid"),
        ("--max-megapixels 0", "max_megapixels=0 and keep_minutes=10 must be more than 0"),
        ("--port 0 --model nowhere", "nowhere is not a model folder"),
        ("--model ftp://a/b", "is not supported here"),
    ],
)
def test_what_cannot_work_is_one_sentence(capsys, words, message):
    assert main(words.split()) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


def test_a_port_that_is_taken_is_said(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 1
    assert "choose another --port" in capsys.readouterr().err


def test_what_is_not_installed_is_said(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([]) == 1
    said = capsys.readouterr().err
    assert said == "error: tvt serve needs starlette, which is not installed: pip install 'tvt-jax[serve]'\n"


def test_a_vae_alone_is_refused(capsys, tmp_path, folder):  # noqa: F811
    write_model(tmp_path / "vae", replace(folder, unet=None, unet_config=None, prompt_embedding=None))
    assert main(["--port", "0", "--model", str(tmp_path / "vae")]) == 1
    assert "has a VAE but no UNet" in capsys.readouterr().err


def test_no_other_command_needs_what_serves():
    serving = ("starlette", "uvicorn")
    others = [path for path in LIBRARY if not within(module_name(path), "tvt_jax.serve")]
    assert not [path for path in others for name in imports(path) if name.split(".")[0] in serving]
    assert not [path for path in others for name in imports(path) if within(name, "tvt_jax.serve")]


def test_help_comes_without_jax_and_a_server():
    program = "import sys, tvt_jax.serve.command; sys.exit(bool({'jax', 'starlette', 'uvicorn'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_server_s_life(tmp_path, model, end):
    """It serves, with the networks, and however it ends nothing is left on the disk."""
    (tmp_path / "temporary").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ["-m", "tvt_jax.cli", "serve", "--port", "0", "--model", str(model)]
    with subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().split()[1]
        assert address.startswith("http://127.0.0.1:")
        key = asked(f"{address}/api/pictures?visitor=me&name=a.png", png(photo()))["key"]
        question = {"model": "model", "scale": 2, "colorFix": "wavelet"}
        asked(f"{address}/api/pictures/{key}/job", json.dumps(question).encode())
        for _ in range(600):
            (told,) = asked(f"{address}/api/visitors/me")
            if told["job"]["state"] in ("done", "failed"):
                break
            time.sleep(0.1)
        assert told["job"]["state"] == "done", told
        server.send_signal(end)
        assert server.wait(20) == (-end if end == signal.SIGKILL else 0)
    assert list((tmp_path / "temporary").iterdir()) == []


def asked(address, data=None):
    with urllib.request.urlopen(address, data) as answer:
        return json.load(answer)
