"""The application: its routes and what is around all of them."""

from collections.abc import Callable, Sequence
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from worker.http import events, health, problems
from worker.http.face import Face

ROUTES: Sequence[Callable[[Face], APIRouter]] = (health.routes, events.routes)
"""Each returns the routes of one topic, on what they share."""


def build(face: Face) -> FastAPI:
    """The application on `face`."""
    app = FastAPI(
        title="media-worker",
        version=version("media-worker"),
        docs_url=None,  # a page that loads its scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    for routes in ROUTES:
        app.include_router(routes(face))
    return app
