"""The console's pages together."""

from collections.abc import Callable, Sequence
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from worker.http.console import (
    actions,
    dead_letters,
    drop,
    failures,
    live,
    overview,
    pictures,
    static,
    storage,
    sweeps,
    system,
    upload,
    uploads,
)
from worker.http.console.pages import Console, console_route
from worker.http.console.paths import LIVE, ROOT
from worker.http.face import Face
from worker.http.problems import Problem, not_found

_NOT_ALLOWED = HTTPStatus.METHOD_NOT_ALLOWED

PAGES: Sequence[Callable[[APIRouter, Console], None]] = (
    static.add_to,
    live.add_to,
    system.add_to,
    drop.add_to,
    pictures.add_to,
    overview.add_to,
    uploads.add_to,
    upload.add_to,
    failures.add_to,
    dead_letters.add_to,
    actions.add_to,
    storage.add_to,
    sweeps.add_to,
)
"""Each adds the routes of one page."""


def routes(face: Face) -> APIRouter:
    """`/console`."""
    console = Console(face)
    router = APIRouter(route_class=console_route(console))
    for add_to in PAGES:
        add_to(router, console)

    @router.get(f"{ROOT}/{{path:path}}", include_in_schema=False)
    async def unknown(path: str, request: Request) -> Response:
        """Say that there is no such page, in the console's own words."""
        await console.visitors.visitor(request)
        if request.scope["path"] == LIVE:  # by another method than its own
            raise Problem("bad_request", "That path takes GET alone.", _NOT_ALLOWED, {"Allow": "GET"})
        raise not_found(f"The console has no page {path[:100]!r}.")

    return router
