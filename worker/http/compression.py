"""Compression of answers in JSON and HTML; what is sent in parts, or is a file, goes as it is."""

import asyncio
import gzip
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TYPES = frozenset({"application/json", "application/problem+json", "text/html"})
LEAST = 1024  # bytes; what is smaller fits into one packet anyway
LEVEL = 5
_LARGE = 256 * 1024  # takes so long that others would wait for it
_QUALITY = re.compile(r"q=(0(\.\d{0,3})?|1(\.0{0,3})?)", re.IGNORECASE)


class Compression:
    """Compresses answers of some types for who accepts it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the app, compressed if that is worth it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def compress(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_compressible(message):
                start = message  # its headers depend on the body
                return
            if start is not None:
                first, start = start, None
                message = await _compressed(first, message, scope)
                await send(first)
            await send(message)

        await self._app(scope, receive, compress)


async def _compressed(start: Message, message: Message, scope: Scope) -> Message:
    """The only part of a body compressed, with the headers changed accordingly; else as it is."""
    headers = MutableHeaders(raw=start["headers"])
    headers.add_vary_header("Accept-Encoding")
    body = message.get("body", b"")
    if message.get("more_body", False) or len(body) < LEAST or not accepts_gzip(Headers(scope=scope)):
        return message
    if len(body) < _LARGE:
        small = gzip.compress(body, LEVEL, mtime=0)
    else:
        small = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(small))
    if headers.get("ETag", "").startswith('"'):
        headers["ETag"] = "W/" + headers["ETag"]  # other bytes, which mean the same
    return {**message, "body": small}


def _is_compressible(start: Message) -> bool:
    start["headers"] = list(start.get("headers", ()))
    headers = Headers(raw=start["headers"])
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in TYPES and "content-encoding" not in headers and start["status"] not in (204, 206, 304)


def accepts_gzip(headers: Headers) -> bool:
    """Whether `gzip` is among what the client accepts, by itself or as `*`, with more than q=0."""
    accepted: dict[str, bool] = {}
    for part in ",".join(headers.getlist("accept-encoding")).split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        quality = next((each for each in parameters if each.startswith("q")), "q=1").replace(" ", "")
        valid = _QUALITY.fullmatch(quality)
        accepted[name] = valid is not None and float(quality[2:]) > 0
    return accepted.get("gzip", accepted.get("x-gzip", accepted.get("*", False)))
