"""Pages: what all of them share, how they are rendered, and how their routes answer."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

from storage.errors import StorageError
from worker.http.console.paths import ROOT
from worker.http.console.rendering import template_environment
from worker.http.console.visitors import SAFE_METHODS, Visitor, Visitors, check_same_site
from worker.http.face import Face
from worker.http.parameters import DirectRoute
from worker.http.problems import STATUS, Problem, problem_of, reasons
from worker.queue import QueueUnavailable

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # without any, forms are sent with `Origin: null`
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# For browsers that say where a request comes from: they do where they take it, elsewhere they complain of it.
_OF_TRUSTED: Mapping[str, str] = {"Cross-Origin-Opener-Policy": "same-origin"}
_ASK_NOBODY: Mapping[str, str] = {"WWW-Authenticate": 'Bearer realm="media"'}
"""Of an answer to a page that refreshes itself: a window that asks for a password would open by itself."""
_SINCE = "media.since"
"""Of a request: the last message when it came. What the page shows was read later, and lacks none before."""


@dataclass(frozen=True)
class Section:
    """A page that the navigation leads to; `about_all` keeps it from those who see some uploads alone."""

    path: str
    title: str
    about_all: bool = False
    also: str = ""
    """Other pages that belong to it: a path, and all below."""

    def leads_to(self, path: str) -> bool:
        """Whether that page belongs to it."""
        below = [one for one in (self.path, self.also) if one not in ("", ROOT)]
        return path in (self.path, self.also) or any(path.startswith(f"{one}/") for one in below)


SECTIONS = (
    Section(ROOT, "Overview", about_all=True),
    Section(f"{ROOT}/uploads", "Uploads"),
    Section(f"{ROOT}/failures", "Failures", also=f"{ROOT}/dead-letters"),
    Section(f"{ROOT}/storage", "Storage", about_all=True, also=f"{ROOT}/sweeps"),
    Section(f"{ROOT}/system", "System", about_all=True),
    Section(f"{ROOT}/drop", "Drop pictures"),
)


class Console:
    """What pages share."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.visitors = Visitors(face)
        self.environment = template_environment()

    @property
    def visitor(self) -> Callable[[Request], Coroutine[Any, Any, Visitor]]:
        """A dependency: whoever looks, and may. Raises: Problem, CatalogUnavailable."""
        return self.visitors.visitor

    async def unbound(self, request: Request) -> Visitor:
        """A dependency: whoever looks, and may see what is about all uploads."""
        visitor = await self.visitors.visitor(request)
        if not visitor.sees_all:
            raise Problem("forbidden", "The key is bound to some uploads, and this is about all of them.")
        return visitor

    async def operator(self, request: Request) -> Visitor:
        """A dependency: whoever looks, and may do something."""
        visitor = await self.visitors.visitor(request)
        if not visitor.may_operate:
            raise Problem("forbidden", "That takes a key with the scope operate.")
        return visitor

    async def originals(self, request: Request) -> Visitor:
        """A dependency: whoever looks, and may have originals."""
        visitor = await self.visitors.visitor(request)
        if not visitor.may_see_originals:
            raise Problem("forbidden", "That takes a key with the scope originals.")
        return visitor

    def page(
        self,
        request: Request,
        visitor: Visitor | None,
        template: str,
        title: str,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
        **values: object,
    ) -> Response:
        """A page made of a template, with those values in it."""
        text = self.environment.get_template(template).render(
            title=title,
            path=request.scope["path"],
            sections=_sections_of(visitor),
            visitor=visitor,
            since=request.scope.get(_SINCE, ""),
            badge=self.face.settings.environment,
            url=_path_of(request),
            **values,
        )
        return Response(text, status.value, dict(headers or {}), "text/html")

    def part(self, template: str, **values: object) -> Response:
        """A part of a page, for a script that puts it there."""
        return Response(self.environment.get_template(template).render(**values), media_type="text/html")

    def problem_page(self, request: Request, visitor: Visitor | None, problem: Problem) -> Response:
        """The page that says why not."""
        status = problem.status or STATUS[problem.code]
        seen = _sections_of(visitor)
        return self.page(
            request,
            visitor,
            "problem.html",
            status.phrase,
            status,
            problem.headers,
            problem=problem,
            back=_came_from(request),
            section=next((one for one in seen if one.leads_to(request.scope["path"])), None),
            may_pass=status >= HTTPStatus.INTERNAL_SERVER_ERROR and request.method in SAFE_METHODS,
        )


class ConsoleRoute(DirectRoute):
    """A route whose answers are for browsers, errors too, and that takes nothing from other sites."""

    console: Console
    """Set by `console_route`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        answer, console = super().get_route_handler(), self.console

        async def guarded(request: Request) -> Response:
            last = console.face.tail.last
            request.scope[_SINCE] = "" if last is None else last
            try:
                check_same_site(request)
                response = await answer(request)
            except (Problem, StorageError, QueueUnavailable, RequestValidationError) as error:
                response = await _refused(console, request, error)
            trusted = _OF_TRUSTED if "sec-fetch-site" in request.headers else {}
            for name, value in {**HEADERS, **trusted}.items():
                response.headers.setdefault(name, value)
            return response

        return guarded


def console_route(console: Console) -> type[ConsoleRoute]:
    """The class of this console's routes."""
    return type("RouteOfConsole", (ConsoleRoute,), {"console": console})


async def _refused(console: Console, request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        problem = Problem("bad_request", reasons(error.errors()))
    else:
        problem = problem_of(error)
    if problem.code == "unauthorized" and "hx-request" in request.headers:
        problem = replace(problem, headers=_ASK_NOBODY)
    if prefers_json(request):
        return problem.response()
    visitor: Visitor | None = None
    if problem.code not in ("unauthorized",):
        try:
            visitor = await console.visitors.visitor(request)
        except (Problem, StorageError):
            visitor = None
    return console.problem_page(request, visitor, problem)


def prefers_json(request: Request) -> bool:
    """Whether a script asks, which shows by itself what it is told."""
    return "application/json" in request.headers.get("accept", "")


def _sections_of(visitor: Visitor | None) -> Sequence[Section]:
    """Those that the visitor may see."""
    if visitor is None:
        return []
    seen = [one for one in SECTIONS if visitor.sees_all or not one.about_all]
    return [one for one in seen if visitor.may_upload or one.path != f"{ROOT}/drop"]


def _came_from(request: Request) -> str | None:
    """The other page of this console that has led to this one; None where none says so."""
    try:
        page = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return None
    is_ours = page.netloc == request.headers.get("host") and f"{page.path}/".startswith(f"{ROOT}/")
    path = f"{page.path}?{page.query}" if page.query else page.path
    return path if is_ours and path != _path_of(request) else None


def _path_of(request: Request) -> str:
    path, query = str(request.scope["path"]), request.url.query
    return f"{path}?{query}" if query else path
