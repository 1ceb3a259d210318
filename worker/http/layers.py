"""What is around all routes: the access log, headers for browsers, origins that may ask, and compression."""

import re
from typing import Any

from fastapi import FastAPI, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.http.access_log import AccessLog, Proxies
from worker.http.compression import Compression
from worker.http.face import Face
from worker.http.heads import WithoutBodies
from worker.http.problems import Problem

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
_ASKED_WITH = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "Media-Metadata",
    "Media-Recipe",
    "Prefer",
    "Range",
    "Repr-Digest",
    "traceparent",
    "tracestate",
)
_EXPOSED = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "Upload-Limit",
)
_HARDENING = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_FRESH_S = 600  # for which a browser remembers what it may do


class LayeredApplication(FastAPI):
    """FastAPI, with layers around it that also see what it answers to its own failures."""

    def __init__(self, face: Face, **options: Any) -> None:  # noqa: ANN401 (FastAPI's)
        self._face = face
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        """The layers: the outermost sees all."""
        settings = self._face.settings
        app: ASGIApp = WithoutBodies(Compression(super().build_middleware_stack()))
        if settings.http_origins:
            app = _Origins(
                app, settings.http_origins, _METHODS, _ASKED_WITH, expose_headers=_EXPOSED, max_age=_FRESH_S
            )
        return AccessLog(_Hardened(app), Proxies.parse(settings.http_proxies))


class _Origins(CORSMiddleware):
    """Lets pages of some origins ask; a preflight needs no key, and whoever is refused gets a problem."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What the page may do."""
        response = super().preflight_response(request_headers)
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        if response.status_code == 200:
            return Response(None, 204, headers)
        detail = "Pages of that origin may not, or not with that method or header; see MEDIA_HTTP_ORIGINS."
        return Problem("forbidden", detail, headers=headers).response()


class _Hardened:
    """Adds the headers that keep clients from taking an answer, or what follows it, for something else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the app, with those headers where it does not say otherwise."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        awaits_our_word = Headers(scope=scope).get("expect", "").lower() == "100-continue"

        async def take() -> Message:
            nonlocal awaits_our_word
            awaits_our_word = False
            return await receive()

        async def harden(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = list(message.get("headers", ()))
                if awaits_our_word:  # whose body may never come: what follows may be the next request
                    MutableHeaders(raw=message["headers"])["Connection"] = "close"
                said = {name for name, _ in message["headers"]}
                message["headers"] += [header for header in _HARDENING if header[0] not in said]
            await send(message)

        if _CONTROL.search(scope["path"]):  # which a pattern of a route can overlook at its end
            problem = Problem("bad_request", "A path has no control characters.")
            await problem.response()(scope, take, harden)
            return
        await self._app(scope, take, harden)
