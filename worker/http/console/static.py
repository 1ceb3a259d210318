"""The files that pages load: style and script, which change with the program alone."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from worker.http.console.pages import Console
from worker.http.console.paths import ROOT
from worker.http.console.rendering import STATIC, static_version
from worker.http.problems import not_found

_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_EVER = "public, max-age=31536000, immutable"


class VersionQuery(BaseModel):
    """Which version of a file a page has asked for."""

    v: str = ""


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/static/`."""
    known = {path.name: path for path in STATIC.iterdir() if path.suffix in _TYPES}

    @router.get(f"{ROOT}/static/{{name}}", include_in_schema=False)
    async def static(name: str, query: Annotated[VersionQuery, Query()], request: Request) -> Response:
        """Get a file that pages load; it says nothing of this installation, so it needs no key."""
        path = known.get(name)
        if path is None or console.face.settings.console == "off":
            raise not_found("There is no such file.")
        is_asked_by_page = query.v == static_version(name)
        headers = {"Cache-Control": _FOR_EVER if is_asked_by_page else "no-cache"}
        return Response(path.read_bytes(), 200, headers, _TYPES[path.suffix])
