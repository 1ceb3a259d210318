"""Whether the server lives, and whether it can do its work: what probes ask."""

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from storage.errors import StorageError
from worker.http.documents import json_response
from worker.http.face import Face
from worker.http.parameters import DirectRoute
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
    reason: str | None = Field(description="the parts that it lacks, with why")
    checks: dict[str, CheckView]


_PART = {"ok": True, "reason": None}
_WELL = {"status": "ok", "reason": None, "checks": {"catalog": _PART, "redis": _PART}}
_AWAY = {"ok": False, "reason": "Redis does not answer"}
_UNWELL = {
    "status": "unhealthy",
    "reason": "redis: Redis does not answer",
    "checks": {"catalog": _PART, "redis": _AWAY},
}


def routes(face: Face) -> APIRouter:
    """`/healthz` and `/readyz`, for everybody."""
    router = APIRouter(tags=["health"], route_class=DirectRoute)

    @router.get("/healthz", responses={200: document_of(AliveView, "It lives.", {"status": "ok"})})
    async def healthz() -> Response:
        """Whether the server lives."""
        return json_response({"status": "ok"})

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
        return json_response(document, HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE)

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
