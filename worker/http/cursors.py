"""Cursors: where a list goes on, and of which list, as a text that clients hand back."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from fastapi import Request, Response

from worker.http.documents import json_response
from worker.http.problems import Problem

LONGEST = 512  # characters
_MARK = 6  # bytes


def cursor_of(question: object, place: Sequence[int | str]) -> str:
    """The cursor of what comes after that place in the answer to a question."""
    return urlsafe_b64encode(_mark(question) + orjson.dumps(place)).decode().rstrip("=")


def place_in(question: object, cursor: str, *kinds: type) -> Sequence[Any]:
    """The place that a cursor names. Raises: Problem where it is none of this question."""
    try:
        content = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        place = orjson.loads(content[_MARK:])
    except (ValueError, binascii.Error) as error:
        raise _foreign() from error
    # Of our own making, to the last character: one place has one cursor.
    if not isinstance(place, list) or len(place) != len(kinds) or cursor != cursor_of(question, place):
        raise _foreign()
    return [_as(kind, part) for kind, part in zip(kinds, place, strict=True)]


def page_response(
    request: Request,
    base: str,
    items: Sequence[object],
    following: str | None,
    headers: Mapping[str, str],
    head: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """A page of a list, with a link to the one that follows; `head` stands before its items."""
    if following is not None:
        asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        query = urlencode([*asked, ("cursor", following)])
        headers = {**headers, "Link": f'<{base}{request.url.path}?{query}>; rel="next"'}
    return json_response({**head, "items": items, "next": following}, headers=headers)


def _as(kind: type, part: object) -> int | str | UUID:
    if kind is UUID and isinstance(part, str):
        try:
            return UUID(part)
        except ValueError as error:
            raise _foreign() from error
    if kind is int and type(part) is int and abs(part) < 1 << 63:
        return part
    if kind is str and isinstance(part, str):
        return part
    raise _foreign()


def _mark(question: object) -> bytes:
    """What tells the cursors of one list from those of another."""
    return sha256(orjson.dumps(question, option=orjson.OPT_SORT_KEYS)).digest()[:_MARK]


def _foreign() -> Problem:
    return Problem("bad_request", "cursor: it is not one of this list; ask for the first page without one.")
