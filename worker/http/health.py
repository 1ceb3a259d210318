"""Whether the server lives, and whether it can do its work: what probes ask."""

from http import HTTPStatus
from typing import Literal

import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel

from storage.errors import StorageError
from worker.http.face import Face
from worker.http.problems import Problem
from worker.http.schemas import document_of
from worker.queue import QueueUnavailable


class AliveView(BaseModel):
    """A server that lives."""

    status: Literal["ok"]


class CheckView(BaseModel):
    """One part of what the server needs."""

    ok: bool
    reason: str | None


class HealthView(BaseModel):
    """Whether a server can do its work, and which part it lacks."""

    status: Literal["ok", "unhealthy"]
    checks: dict[str, CheckView]


_PART = {"ok": True, "reason": None}
_WELL = {"status": "ok", "checks": {"catalog": _PART, "redis": _PART}}
_AWAY = {"ok": False, "reason": "Redis does not answer"}
_UNWELL = {"status": "unhealthy", "checks": {"catalog": _PART, "redis": _AWAY}}


def routes(face: Face) -> APIRouter:
    """`/healthz` and `/readyz`, for everybody."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", responses={200: document_of(AliveView, "It lives.", {"status": "ok"})})
    async def healthz() -> Response:
        """Whether the server lives."""
        return _json(HTTPStatus.OK, {"status": "ok"})

    @router.get(
        "/readyz",
        responses={
            200: document_of(HealthView, "It can.", _WELL),
            503: document_of(HealthView, "It cannot.", _UNWELL),
        },
    )
    async def readyz() -> Response:
        """Whether the server can do its work, with each of its parts."""
        checks = {"catalog": await _catalog(face), "redis": await _redis(face)}
        if face.stopping.is_set():
            checks["server"] = "the server is stopping"
        well = not any(checks.values())
        document = {
            "status": "ok" if well else "unhealthy",
            "reason": "; ".join(f"{name}: {reason}" for name, reason in checks.items() if reason) or None,
            "checks": {name: {"ok": reason is None, "reason": reason} for name, reason in checks.items()},
        }
        return _json(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, document)

    return router


async def _catalog(face: Face) -> str | None:
    try:
        await face.reader.newest_seq()
    except (Problem, StorageError) as error:
        return error.detail if isinstance(error, Problem) else "the catalog does not answer"
    return None


async def _redis(face: Face) -> str | None:
    try:
        await face.queue.stream.depth()
    except QueueUnavailable:
        return "Redis does not answer"
    return None


def _json(status: HTTPStatus, document: object) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(document), status.value, headers, "application/json")
