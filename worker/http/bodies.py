"""Bodies of requests, read no further than they may be."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from worker.http.problems import Problem, reasons, too_large
from worker.json_errors import why_no_json

MOST_JSON = 64 * 1024  # bytes
MOST_DROPPED = 64 * 1024 * 1024  # bytes of a refused body that its sender may send to its end
CHUNK_WITHIN_S = 30.0
LEAST_RATE = 1024  # bytes a second that a body has on average, once it has taken so long
MOST_OF_A_FORM = 64 * 1024  # bytes beside the file itself
MOST_PARTS = 8
MOST_FIELD = 16 * 1024  # bytes
FILE, RECIPE, METADATA = "file", "recipe", "metadata"

_MOST_BOUNDARY = 70  # characters, RFC 2046
_ENCODINGS = (b"binary", b"8bit", b"7bit")

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, model: type[M], chunk_within_s: float = CHUNK_WITHIN_S) -> M:
    """The JSON body of a request. Raises: Problem (bad_request), without having read more than it may."""
    read = bytearray()
    async for chunk in Body(request, chunk_within_s).chunks():
        read += chunk
        if len(read) > MOST_JSON:
            raise Problem("bad_request", f"A JSON body has at most {MOST_JSON} bytes.")
    body = bytes(read)
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem("bad_request", f"The body is not JSON: {why_no_json(body, error)}.") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise Problem("bad_request", reasons(error.errors(include_url=False, include_input=False))) from error


def json_body(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a route that reads such a body."""
    schema = model.model_json_schema()
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


class Body:
    """The body of a request; nothing of it is read before somebody asks for it."""

    def __init__(self, request: Request, chunk_within_s: float = CHUNK_WITHIN_S) -> None:
        self._receive = request.receive
        self._chunk_within_s = chunk_within_s
        self._waited_s = 0.0  # for its sender, not for whoever stores it
        self.length = _length_of(request)
        """What its sender says that it has, in bytes; None: that is not said."""
        self.bytes = 0
        self.has_ended = self.length == 0

    @property
    def rest(self) -> int | None:
        """The bytes that are still to come; None: nobody knows."""
        if self.has_ended:
            return 0
        return None if self.length is None else max(0, self.length - self.bytes)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes as they come. Raises: Problem where they come too slowly, or no more."""
        while not self.has_ended:
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._chunk_within_s):
                    chunk = await self._next()
            except TimeoutError:
                raise _too_slow(f"Nothing came for {self._chunk_within_s:g} seconds.") from None
            self._waited_s += time.monotonic() - began
            if self._waited_s > self._chunk_within_s + self.bytes / LEAST_RATE:
                raise _too_slow(f"Less than {LEAST_RATE} bytes came in a second.")
            if chunk:
                yield chunk

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            self.has_ended = True
            raise Problem("bad_request", "The connection ended before the body did.")
        chunk: bytes = message.get("body", b"")
        self.bytes += len(chunk)
        self.has_ended = not message.get("more_body", False)
        return chunk


def refusal(problem: Problem, body: Body) -> Response:
    """The answer to whoever may still send the body; it can be read whether they do or not."""
    return still_sent(problem, body).response()


def still_sent(problem: Problem, body: Body) -> Problem:
    """The problem as it is told to whoever may still send the body."""
    # What is left is read for nobody, unless it is much.
    if body.rest is None or body.rest <= MOST_DROPPED:
        return problem
    return replace(problem, headers={**problem.headers, "Connection": "close"})


class SentPicture(Protocol):
    """A picture that a request brings, and what is said of it beside its headers."""

    fields: Mapping[str, bytes]
    """The fields that came before what was read of the picture, or, at its end, all."""
    size: int | None
    """The bytes of the picture, where they are known before."""
    most: int
    """The bytes that it has at most."""

    def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the picture. Raises: Problem."""


class RawPicture:
    """A body that is the picture."""

    def __init__(self, body: Body, most: int) -> None:
        self.fields: Mapping[str, bytes] = {}
        self.size = body.length
        self.most = most if body.length is None else body.length
        self._body = body
        self._most = most

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the picture. Raises: Problem."""
        async for chunk in self._body.chunks():
            if self._body.bytes > self._most:
                raise too_large(self._most)
            yield chunk


class FormPicture:
    """A form (RFC 7578) with one file, and fields before or after it; nothing of it is kept."""

    def __init__(self, body: Body, most: int, boundary: bytes) -> None:
        self._body = body
        self._most = most
        self._form = _Form(boundary)
        self.fields: Mapping[str, bytes] = self._form.fields
        self.size: int | None = None
        self.most = most if body.length is None else min(most, body.length)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the file, then the fields after it. Raises: Problem."""
        size = 0
        async for chunk in self._body.chunks():
            for part in self._form.feed(chunk):
                size += len(part)
                if size > self._most:
                    raise too_large(self._most)
                yield part
            if self._body.bytes - size > MOST_OF_A_FORM:
                raise Problem("bad_request", f"A form has at most {MOST_OF_A_FORM} bytes beside its file.")
        self._form.check_complete()


class _Form:
    """Takes a form apart as it comes."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, bytes] = {}
        self._parts = 0
        self._has_file = False
        self._has_ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._content = bytearray()  # of a field
        self._of_file: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_content,
                "on_part_data": self._take,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> Sequence[bytes]:
        """The bytes of the file that are in that chunk of the form. Raises: Problem."""
        self._of_file = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Problem("bad_request", "The form is not one of multipart/form-data.") from error
        return self._of_file

    def check_complete(self) -> None:
        """Raises: Problem where the form has no end, or no file."""
        if not self._has_ended:
            raise Problem("bad_request", "The form ends before its last boundary.")
        if not self._has_file:
            raise Problem("bad_request", f"The form has no field {FILE}.")

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Problem("bad_request", f"A form has at most {MOST_PARTS} parts.")
        self._headers = {}
        self._content = bytearray()

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _begin_content(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if kind != b"form-data" or self._name not in (FILE, RECIPE, METADATA):
            raise Problem("bad_request", f"A form has the fields {FILE}, {RECIPE} and {METADATA}, no others.")
        if self._headers.get(b"content-transfer-encoding", b"binary").lower() not in _ENCODINGS:
            raise Problem("bad_request", "The parts of a form are not encoded.")
        if self._name in self.fields or (self._name == FILE and self._has_file):
            raise Problem("bad_request", f"A form has one {self._name}.")
        self._has_file |= self._name == FILE

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._of_file.append(data[start:end])
            return
        self._content += data[start:end]
        if len(self._content) > MOST_FIELD:
            raise Problem("bad_request", f"The field {self._name} has at most {MOST_FIELD} bytes.")

    def _end_part(self) -> None:
        if self._name != FILE:
            self.fields[self._name] = bytes(self._content)

    def _end(self) -> None:
        self._has_ended = True


def picture_in(request: Request, body: Body, most: int) -> SentPicture:
    """What the headers say that the body is. Raises: Problem, before any of it is read."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(
            "unsupported_format",
            "The body must not be encoded: send the picture as it is.",
            headers={"Accept-Encoding": "identity"},
        )
    header = request.headers.get("content-type", "application/octet-stream")
    kind, options = parse_options_header(header)
    is_form = kind == b"multipart/form-data"
    overhead = MOST_OF_A_FORM if is_form else 0
    if body.length is not None and body.length > most + overhead:
        raise too_large(most)
    if is_form:
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= _MOST_BOUNDARY:
            raise Problem("bad_request", "The Content-Type of a form names its boundary.")
        return FormPicture(body, most, boundary)
    if kind.startswith(b"image/") or kind == b"application/octet-stream":
        return RawPicture(body, most)
    raise Problem("unsupported_format", "The Content-Type must be image/*, or multipart/form-data.")


def _length_of(request: Request) -> int | None:
    said = request.headers.get("content-length")
    if said is not None and said.isascii() and said.isdigit():
        return int(said)
    # Without either header a request has no body.
    return None if "transfer-encoding" in request.headers or said is not None else 0


def _too_slow(detail: str) -> Problem:
    return Problem("bad_request", detail, HTTPStatus.REQUEST_TIMEOUT, {"Connection": "close"})
