"""A blob as an answer: all of its bytes, a range of them, or none because the client has them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from fastapi import Request, Response
from starlette.types import Message, Receive, Scope, Send

from storage.blobs import BlobPart, ReadPart
from storage.errors import BlobNotFound, BlobRefused, StorageError
from worker.http.problems import Problem, not_found

log = structlog.get_logger(__name__)

OF_A_FILE = 256 * 1024  # bytes that are read at once: so much memory a slow client takes
OF_AN_OBJECT = 1024 * 1024  # the same, where each part is a request

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True)
class Blob:
    """What is sent: the key, its strong ETag, and the headers of each answer with bytes of it."""

    key: str
    etag: str
    headers: Mapping[str, str]
    stamp: str = ""  # of the content that is meant, where it may be replaced


@dataclass(frozen=True)
class ByteRange:
    """The bytes that are asked for: from `start` on, or the last so many where it is negative."""

    start: int
    last: int | None = None

    def most(self, at_once: int) -> int:
        """How many bytes are read first."""
        if self.last is None:
            return at_once
        return min(at_once, self.last - self.start + 1)


class Sender:
    """Sends blobs, so many bytes at once."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once

    async def send(self, request: Request, blobs: ReadPart, blob: Blob) -> Response:
        """The answer to a GET or HEAD. Raises: Problem (not found, or a range that is not there)."""
        headers = {"Accept-Ranges": "bytes", "ETag": blob.etag, **blob.headers}
        with _found():
            if has_it(request, blob.etag):
                await blobs.read_part(blob.key, 0, 0, blob.stamp)
                return _without_body(HTTPStatus.NOT_MODIFIED, headers)
            if request.method == "HEAD":
                whole = await blobs.read_part(blob.key, 0, 0, blob.stamp)
                return _without_body(HTTPStatus.OK, {**headers, "Content-Length": str(whole.bytes)})
            return await self._bytes(request, blobs, blob, headers)

    async def _bytes(
        self, request: Request, blobs: ReadPart, blob: Blob, headers: Mapping[str, str]
    ) -> Response:
        wanted = wanted_range(request, blob.etag)
        if wanted is None:
            part = await blobs.read_part(blob.key, 0, self._at_once, blob.stamp)
            end, status = part.bytes, HTTPStatus.OK
        else:
            part = await blobs.read_part(blob.key, wanted.start, wanted.most(self._at_once), blob.stamp)
            end = part.bytes if wanted.last is None else min(part.bytes, wanted.last + 1)
            if not part.content:
                raise _no_such_bytes(part.bytes)
            headers = {**headers, "Content-Range": f"bytes {part.start}-{end - 1}/{part.bytes}"}
            status = HTTPStatus.PARTIAL_CONTENT
        if part.start + len(part.content) == end:
            return Response(part.content, status.value, headers)
        length = {"Content-Length": str(end - part.start)}
        return _Parts(request, blobs, blob.key, part, end, self._at_once, status, {**headers, **length})


async def check_there(blobs: ReadPart, key: str) -> None:
    """Raises: Problem (not found)."""
    with _found():
        await blobs.read_part(key, 0, 0)


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except (BlobNotFound, BlobRefused) as error:
        raise not_found("There is no such file.") from error


def has_it(request: Request, etag: str) -> bool:
    """Whether the client says that it has what has this ETag (If-None-Match)."""
    known = ",".join(request.headers.getlist("if-none-match")).strip()
    return known == "*" or etag in _TAG.findall(known)


def wanted_range(request: Request, etag: str) -> ByteRange | None:
    """The one range that is asked for. None: the whole, as also for several ranges, or what is no range."""
    given = request.headers.getlist("range")
    found = _RANGE.fullmatch(given[0]) if len(given) == 1 else None
    if found is None or request.headers.get("if-range", etag).strip() != etag:
        return None
    first, last = found.groups()
    if first:
        start = int(first)
        return None if last and int(last) < start else ByteRange(start, int(last) if last else None)
    if not last:
        return None
    return ByteRange(-int(last)) if int(last) else ByteRange(0, -1)  # the last 0 bytes are none


def _no_such_bytes(size: int) -> Problem:
    detail = f"The file has {size} bytes, and none in that range."
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    return Problem("bad_request", detail, status, {"Content-Range": f"bytes */{size}"})


def _without_body(status: HTTPStatus, headers: Mapping[str, str]) -> Response:
    if status is HTTPStatus.NOT_MODIFIED:
        headers = {name: value for name, value in headers.items() if name != "Content-Type"}
    return Response(None, status.value, headers)


class _Parts(Response):
    """Bytes that are read while they are sent; each part is of the content that the first was of."""

    def __init__(
        self,
        request: Request,
        blobs: ReadPart,
        key: str,
        first: BlobPart,
        end: int,
        at_once: int,
        status: HTTPStatus,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(None, status.value, headers)
        self._request = request
        self._blobs = blobs
        self._key = key
        self._first = first
        self._end = end
        self._at_once = at_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        content, at = self._first.content, self._first.start
        while at + len(content) < self._end:
            await send(_body(content, more=True))
            at += len(content)
            if await self._request.is_disconnected():
                return
            try:
                part = await self._blobs.read_part(
                    self._key, at, min(self._at_once, self._end - at), self._first.stamp
                )
            except StorageError as error:
                # The status is sent: only a connection that is cut tells the client that this is not all.
                log.warning("file_cut", key=self._key, reason=str(error))
                return
            content = part.content
            if not content:
                log.warning("file_cut", key=self._key, reason="the file has become shorter")
                return
        await send(_body(content, more=False))


def _body(content: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}
