"""The server: what its page asks for, and what it answers."""

import asyncio
import importlib.util
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tvt_jax.colour import COLOR_FIXES
from tvt_jax.serve import work
from tvt_jax.serve.blob import Blob
from tvt_jax.serve.guard import Guard
from tvt_jax.serve.jobs import Job, Queue
from tvt_jax.serve.names import as_attachment, clean
from tvt_jax.serve.questions import REFUSALS, ask_of, strength_of
from tvt_jax.serve.store import Held, Store
from tvt_jax.serve.views import small
from tvt_jax.serve.work import Model
from tvt_jax.slider import SCRIPT, STYLE

_PAGE = Path(__file__).parent / "page"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_KINDS_READ = "JPEG PNG WebP TIFF AVIF BMP GIF".split()
# 16 bits of four channels, uncompressed; and what else a file may tell.
_BYTES_PER_PIXEL = 8
_SPARE_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken, and for how long it is held.

    Attributes:
        megapixels: of a picture.
        keep: seconds after its page was last heard of.
        keep_downloaded: seconds after its download.
    """

    megapixels: float = 24.0
    keep: float = 600.0
    keep_downloaded: float = 300.0

    @property
    def bytes(self) -> int:
        """Of a file."""
        return int(self.megapixels * 1e6 * _BYTES_PER_PIXEL) + _SPARE_BYTES


def make_app(models: Mapping[str, Model], host: str = "127.0.0.1", limits: Limits = Limits()) -> Starlette:
    """Make the application; the first of `models` (by name) is the one that is chosen at first."""
    server = _Server(models, limits)
    routes = [
        Route("/", server.page),
        Route("/{file:str}", server.page),
        Route("/api/start", server.start),
        Route("/api/pictures", server.upload, methods=["POST"]),
        Route("/api/pictures/{key:str}", server.forget, methods=["DELETE"]),
        Route("/api/pictures/{key:str}/job", server.ask, methods=["POST"]),
        Route("/api/pictures/{key:str}/job", server.give_up, methods=["DELETE"]),
        Route("/api/pictures/{key:str}/result", server.download),
        Route("/api/pictures/{key:str}/{layer:str}", server.layer),
        Route("/api/visitors/{visitor:str}", server.tell),
        Route("/api/visitors/{visitor:str}/forget", server.leave, methods=["POST"]),
        Route("/api/visitors/{visitor:str}/zip", server.download_all),
    ]
    guard = Middleware(Guard, host=host)
    return Starlette(routes=routes, lifespan=server.run, exception_handlers=REFUSALS, middleware=[guard])


class _Server:
    def __init__(self, models: Mapping[str, Model], limits: Limits) -> None:
        self._models, self._limits = models, limits
        self._store = Store(limits.keep, limits.keep_downloaded)
        self._queue = Queue()

    @asynccontextmanager
    async def run(self, app: Starlette) -> AsyncIterator[None]:
        """Work while the server runs, and forget everything when it ends."""
        self._queue.start()
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            self._store.close()
            await run_in_threadpool(self._queue.close)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(5.0, self._limits.keep_downloaded))
            self._store.sweep()

    async def page(self, request: Request) -> Response:
        """Give the page, and what it is made of."""
        name = request.path_params.get("file", "index.html")
        shared = {"slider.css": STYLE, "slider.js": SCRIPT}
        path = _PAGE / name
        if name not in shared and (path.suffix not in _KINDS or not path.is_file()):
            raise HTTPException(404, "there is no such page")
        return Response(shared.get(name) or path.read_bytes(), media_type=_KINDS[path.suffix])

    async def start(self, request: Request) -> Response:
        """Give a new visitor a name, and what can be asked for."""
        cards = {name: model.upscaler.card for name, model in self._models.items()}
        models = [{"name": name, "scale": card.scale, "colorFix": card.color_fix} for name, card in cards.items()]
        return JSONResponse(
            {
                "visitor": secrets.token_urlsafe(16),
                "models": models,
                "kinds": _KINDS_READ + ["HEIC"] * (importlib.util.find_spec("pillow_heif") is not None),
                "colorFixes": list(COLOR_FIXES),
                "megapixels": self._limits.megapixels,
                "bytes": self._limits.bytes,
                "trial": work.TRIAL,
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take a picture: the body is the file, its name and its visitor are in the query."""
        name, visitor = clean(request.query_params.get("name", "")), request.query_params.get("visitor", "")
        if not visitor:
            raise HTTPException(400, "the visitor is not told")
        self._store.check_room()
        data = await self._receive(request, name)
        try:
            picture, warnings = await run_in_threadpool(self._read, data, name)
            shown = Blob(await run_in_threadpool(small, picture))
            size = (picture.pixels.shape[0], picture.pixels.shape[1])
            held = self._store.add(visitor, name, data, shown, size, warnings)
        except BaseException:
            data.close()
            raise
        return JSONResponse(self._told(held), HTTPStatus.CREATED)

    async def _receive(self, request: Request, name: str) -> Blob:
        data, size = Blob(), 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > self._limits.bytes:
                    most = self._limits.bytes / 1e6
                    raise HTTPException(413, f"{name} has more than {most:.0f} MB, which is more than this page takes")
                await run_in_threadpool(data.append, chunk)
        except BaseException:
            data.close()
            raise
        return data

    def _read(self, data: Blob, name: str) -> Any:
        content = data.read()
        work.check_picture(content, name, self._limits.megapixels)
        return work.read(content, name)

    async def ask(self, request: Request) -> Response:
        """Have a picture, or a part of it, wait for its turn."""
        held = self._store.get(request.path_params["key"])
        if held.job and held.job.open:
            raise HTTPException(409, f"{held.name} is being worked on already")
        ask = await ask_of(request, self._models)
        height, width = held.size if ask.part is None else (min(side, work.TRIAL) for side in held.size)
        work.check_result(height, width, held.name, ask.scale, self._limits.megapixels)
        pixels = round(height * width * ask.scale**2)
        held.job = Job(visitor=held.visitor, ask=ask, pixels=pixels, run=lambda job: self._restore(held, job))
        self._queue.put(held.job)
        return JSONResponse(self._told(held), HTTPStatus.ACCEPTED)

    def _restore(self, held: Held, job: Job) -> None:
        upscaler = self._models[job.ask.model].upscaler
        held.finish(*work.restore(held.data.read(), held.name, job.ask, upscaler, job.report))

    async def give_up(self, request: Request) -> Response:
        """End what is worked on."""
        held = self._store.get(request.path_params["key"])
        if held.job:
            held.job.give_up()
        return JSONResponse(self._told(held))

    async def forget(self, request: Request) -> Response:
        """Forget a picture."""
        self._store.forget(self._store.get(request.path_params["key"]))
        return JSONResponse({})

    async def leave(self, request: Request) -> Response:
        """Forget all of a visitor, whose page is closed."""
        for held in self._store.of(request.path_params["visitor"]):
            self._store.forget(held)
        return JSONResponse({})

    async def tell(self, request: Request) -> Response:
        """Tell a visitor's page how its pictures stand."""
        return JSONResponse([self._told(held) for held in self._store.of(request.path_params["visitor"])])

    async def layer(self, request: Request) -> Response:
        """Give what is shown of a picture: itself, small; the result and what it is laid over."""
        held = self._store.get(request.path_params["key"])
        layers = {"small": (held.small, "image/jpeg")}
        if held.view:
            layers |= {"before": (held.view.before, "image/png"), "after": (held.view.after, "image/png")}
        blob, kind = layers[request.path_params["layer"]]
        return Response(await run_in_threadpool(blob.read), media_type=kind)

    async def download(self, request: Request) -> Response:
        """Give a result as a file."""
        held, strength = self._store.get(request.path_params["key"]), strength_of(request)
        if held.restored is None:
            raise HTTPException(404, f"{held.name} has not been restored yet")
        data = await run_in_threadpool(self._written, held, strength)
        self._store.downloaded(held)
        name = work.result_name(held.name).name
        return Response(data, media_type="application/octet-stream", headers=as_attachment(name))

    async def download_all(self, request: Request) -> Response:
        """Give all results of a visitor in a zip."""
        done = [held for held in self._store.of(request.path_params["visitor"]) if held.restored]
        strength = strength_of(request)
        if not done:
            raise HTTPException(404, "nothing has been restored yet")
        names = [work.result_name(held.name).name for held in done]
        packed = await run_in_threadpool(work.pack, names, (self._written(held, strength) for held in done))
        for held in done:
            self._store.downloaded(held)
        return StreamingResponse(_sent(packed), media_type="application/zip", headers=as_attachment("restored.zip"))

    def _written(self, held: Held, strength: float) -> bytes:
        assert held.restored is not None  # for the type checker: both callers have seen it
        fingerprint = self._models[held.restored.ask.model].fingerprint
        return work.write(held.data.read(), held.name, held.restored, strength, fingerprint)

    def _told(self, held: Held) -> dict[str, Any]:
        job, view = held.job, held.view
        told: dict[str, Any] = {"key": held.key, "name": held.name, "warnings": held.warnings}
        told |= {"height": held.size[0], "width": held.size[1], "result": work.result_name(held.name).name}
        if job:
            left = self._queue.seconds_left(job) if job.open else None
            told["job"] = {"state": job.state, "error": job.error, "share": job.share, "left": left}
            told["job"] |= {"ahead": self._queue.ahead(job), "trial": job.ask.part is not None}
        if view:
            shown = {"height": view.size[0], "width": view.size[1], "share": view.share, "part": view.part}
            told["view"] = {"id": held.views, **shown}
        return told | {"restored": held.restored is not None}


def _sent(packed: Blob) -> Iterator[bytes]:
    try:
        yield from packed.chunks()
    finally:
        packed.close()
