"""The application: its routes and what is around all of them."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI

from worker.http import (
    events,
    failures,
    files,
    health,
    listing,
    openapi,
    originals,
    problems,
    reports,
    token_routes,
    uploads,
)
from worker.http.console import routes as console
from worker.http.face import Face
from worker.http.heads import answer_heads
from worker.http.layers import LayeredApplication
from worker.queue import connect, job_queue_of, queue_on
from worker.settings import Settings

ROUTES: Sequence[Callable[[Face], APIRouter]] = (
    health.routes,
    listing.routes,
    failures.routes,
    reports.routes,
    events.routes,
    files.routes,
    originals.routes,
    token_routes.routes,
    uploads.routes,
    console.routes,
)
"""Each returns the routes of one topic, on what they share."""


def description() -> dict[str, Any]:
    """The OpenAPI document, which is the same for all settings."""
    usual = Settings.model_construct(cpus=1)
    idle = connect(usual.redis_url, job_queue_of(usual.stream))  # by nobody, as nothing is asked
    return build(Face(usual, queue_on(idle, usual))).openapi()


def build(face: Face) -> FastAPI:
    """The application on `face`."""
    app = LayeredApplication(
        face,
        title=openapi.TITLE,
        version=openapi.VERSION,
        docs_url=None,  # a page that loads its scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    routers = [routes(face) for routes in ROUTES]
    answer_heads(routers)
    problems.install(app, routers)
    for router in routers:
        app.router.routes += router.routes  # of an included router FastAPI looks for the route twice
    app.openapi = cache(lambda: openapi.describe(routers))  # type: ignore[method-assign]
    return app
