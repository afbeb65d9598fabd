"""The command that serves the page."""

import importlib.util
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tyro
from PIL import Image

from tvt_jax.place import check

_NEEDED = ("starlette", "uvicorn")


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, by default this program's, serve until interrupted, and return the exit status."""
    try:
        tyro.cli(serve, prog="tvt serve", args=words)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def serve(
    model: tuple[Path, ...] = (),
    port: int = 7860,
    host: str = "127.0.0.1",
    max_megapixels: float = 24.0,
    keep_minutes: float = 10.0,
    tile: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Serve a page to upscale photos on; to this machine's own browsers, unless told otherwise.

    Args:
        model: model folders to choose from, or hf://OWNER/NAME, or gs://BUCKET/NAME; the default is the small model in
            the package
        port: where it listens; 0 takes one that is free
        host: the address that it listens at; 0.0.0.0 lets everyone in who can reach this machine
        max_megapixels: of a photo; larger ones are refused
        keep_minutes: how long a photo is held after its page was last heard of
        tile: side of the tiles for large pictures, in latent pixels; the default is the largest that fits the memory
        dtype: what the networks compute in
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise ValueError(f"tvt serve needs {missing[0]}, which is not installed: pip install 'tvt-jax[serve]'")
    for path in model:
        check(path, "gs", "hf")
    if max_megapixels <= 0 or keep_minutes <= 0:
        raise ValueError(f"max_megapixels={max_megapixels:g} and keep_minutes={keep_minutes:g} must be more than 0")
    limits = {"megapixels": max_megapixels, "keep": 60 * keep_minutes}
    with _listen(host, port) as listener:
        _run(listener, host, model, limits, tile=tile, dtype=dtype)


def _run(listener: socket.socket, host: str, paths: tuple[Path, ...], limits: dict[str, float], **options: Any) -> None:
    # Imported here because jax takes a second to load, and --help shouldn't.
    import uvicorn

    from tvt_jax.serve.models import load_models
    from tvt_jax.serve.server import Limits, make_app

    # Sizes are looked at before anything is decoded; this is for headers that lie.
    Image.MAX_IMAGE_PIXELS = int(limits["megapixels"] * 1e6)
    app = make_app(load_models(paths, **options), host, Limits(**limits))
    # uvicorn ends its server first, then raises the signal anew: it shall end as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"open {_address(listener)} in a browser; Ctrl-C ends it", flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3, server_header=False)
    uvicorn.Server(config).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is loaded."""
    if not 0 <= port < 2**16:
        raise ValueError(f"port={port} is out of range, use 1 to 65535, or 0 for one that is free")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"can't listen at {host}, port {port} ({error}): choose another --port, or --host") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
