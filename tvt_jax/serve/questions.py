"""What requests ask, taken with care; and refusals, as sentences."""

import json
from collections.abc import Collection
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from tvt_jax.colour import COLOR_FIXES, ColorFix
from tvt_jax.inference.check import check_choice, check_scale
from tvt_jax.inference.strength import check_strength
from tvt_jax.serve.store import MOST, Full
from tvt_jax.serve.work import Ask

_LONGEST = 10_000


async def ask_of(request: Request, models: Collection[str]) -> Ask:
    """Read what is asked for from a request's body.

    Raises:
        ValueError: something is missing, isn't known, or is out of range.
    """
    question = await _question(request)
    try:
        model, fix, scale = str(question["model"]), str(question["colorFix"]), float(question["scale"])
        part = question.get("part")
        where = None if part is None else (int(part[0]), int(part[1]))
    except (KeyError, TypeError, IndexError, OverflowError):
        raise ValueError("the question lacks model, colorFix, scale or part, or one has the wrong type") from None
    check_choice("model", model, tuple(models))
    check_choice("color_fix", fix, tuple(COLOR_FIXES))
    return Ask(model=model, scale=check_scale(scale), color_fix=cast(ColorFix, fix), part=where)


def strength_of(request: Request) -> float:
    """Read the strength from a request's query; 1 where it isn't told."""
    return float(check_strength(float(request.query_params.get("strength", "1"))))


async def _question(request: Request) -> dict[str, Any]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST:
            raise HTTPException(413, "the question is too long")
    with suppress(ValueError):
        question = json.loads(body)
        if isinstance(question, dict):
            return question
    raise HTTPException(400, "the question is not JSON")


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # what it is registered for
    return JSONResponse({"error": error.detail}, error.status_code)


def _refuse_value(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)


def _refuse_unknown(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "this picture is not held any more: choose it again"}, HTTPStatus.NOT_FOUND)


def _refuse_full(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"{MOST} pictures are held already: try again later"}, HTTPStatus.SERVICE_UNAVAILABLE)


def _refuse_for_room(request: Request, error: Exception) -> Response:
    why = getattr(error, "strerror", None) or "the memory is used up"
    return JSONResponse({"error": f"the server has no room for this: {why}"}, HTTPStatus.INSUFFICIENT_STORAGE)


REFUSALS: Any = {
    HTTPException: _refuse,
    ValueError: _refuse_value,
    KeyError: _refuse_unknown,
    Full: _refuse_full,
    OSError: _refuse_for_room,
    MemoryError: _refuse_for_room,
    ClientDisconnect: _refuse_value,
}
