"""A server whose model repeats pixels, step by step, as slowly as a test wants."""

import io
import threading

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.inference.conftest import Enlarger
from tvt_jax.serve.server import Limits, make_app
from tvt_jax.serve.work import Model

ADDRESS = "http://127.0.0.1:7860"


class Stepper(Enlarger):
    """Reports ten steps, each of which waits for the gate, and brightens what it enlarges."""

    def __init__(self):
        super().__init__()
        self.gate, self.pause, self.seen = threading.Event(), 0.0, []
        self.gate.set()

    def upscale(self, image, scale=None, *, strength=1, color_fix=None, report=None):
        self.seen.append((image.shape, scale, color_fix))
        for step in range(10):
            assert self.gate.wait(20)
            threading.Event().wait(self.pause)
            report(step + 1, 10)
        return super().upscale(image, scale) // 2 + np.iinfo(image.dtype).max // 2


@pytest.fixture
def stepper():
    return Stepper()


@pytest.fixture
def serving(stepper):
    """Starts a client of a server; all end with the test."""
    clients = []

    def start(host="127.0.0.1", **limits):
        models = {
            "one": Model(upscaler=stepper, fingerprint="0123"),
            "two": Model(upscaler=Stepper(), fingerprint="4567"),
        }
        client = TestClient(make_app(models, host, Limits(**limits)), base_url=ADDRESS)
        clients.append(client.__enter__())
        return client

    yield start
    stepper.gate.set()
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serving):
    return serving()


def photo(height=12, width=16, channels=3, dtype=np.uint8):
    rng = np.random.default_rng(height * width)
    return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
