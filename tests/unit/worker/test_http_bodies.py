"""Bodies of uploads: how slowly they may come, and forms in whatever pieces they come."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.support.uploading import form
from worker.http.bodies import Body, picture_in, read_json
from worker.http.problems import Problem

FILE = bytes(range(256)) * 8 + b"\r\n--" + b"\r\n------a-boundary"
FORM, FORM_HEADERS = form(("recipe", b"default"), ("file", FILE), ("metadata", b'{"a": 1}'))


def request_of(pieces: Iterable[bytes], headers: Mapping[str, str], pause_s: float = 0) -> Request:
    """A request whose body comes in these pieces."""
    rest = iter([*pieces, None])

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        piece = next(rest)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def read(request: Request, most: int = 1_000_000) -> tuple[bytes, Mapping[str, bytes]]:
    """The picture in a request, and the fields beside it."""
    sent = picture_in(request, Body(request), most)
    async with aclosing(sent.chunks()) as chunks:
        content = b"".join([chunk async for chunk in chunks])
    return content, sent.fields


@given(st.lists(st.integers(1, 300), min_size=1))
def test_a_form_may_come_in_any_pieces(sizes: list[int]) -> None:
    ends = [0, *(sum(sizes[: n + 1]) for n in range(len(sizes))), len(FORM)]
    pieces = [FORM[start:end] for start, end in pairwise(ends)]
    headers = {**FORM_HEADERS, "transfer-encoding": "chunked"}

    assert asyncio.run(read(request_of(pieces, headers))) == (
        FILE,
        {"recipe": b"default", "metadata": b'{"a": 1}'},
    )


async def slow() -> AsyncIterator[bytes]:
    body = Body(request_of([b"x"] * 50, {"content-length": "50"}, pause_s=0.01), chunk_within_s=0.1)
    async for chunk in body.chunks():
        yield chunk


async def test_a_body_that_drips_is_cut() -> None:
    with pytest.raises(Problem) as cut:
        assert len([chunk async for chunk in slow()]) < 20

    assert (cut.value.response().status_code, cut.value.headers) == (408, {"Connection": "close"})


async def test_a_body_of_which_nothing_comes_is_cut() -> None:
    body = Body(request_of([b"x"], {"content-length": "5"}, pause_s=10), chunk_within_s=0.01)
    with pytest.raises(Problem, match="Nothing came"):
        await anext(body.chunks())


@pytest.mark.parametrize(
    "content",
    [
        form(*(("file", b"x") for _ in range(9)))[0],
        form(*((f"{n}", b"x") for n in range(9)))[0],
        FORM.replace(b"form-data; ", b"attachment; ", 1),
        FORM.replace(b"\r\n\r\n", b"\r\nX: " + bytes(5000) + b"\r\n\r\n", 1),
        FORM.replace(b"\r\n\r\n", b"\r\nA: b" * 20 + b"\r\n\r\n", 1),
        FORM.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1),
        b"no form",
        b"x" * 200_000,
        FORM + b"x" * 200_000,
    ],
)
async def test_what_is_no_form_of_an_upload_is_refused(content: bytes) -> None:
    with pytest.raises(Problem) as refused:
        await read(request_of([content], {**FORM_HEADERS, "transfer-encoding": "chunked"}))

    assert refused.value.response().status_code == 400


async def test_the_file_of_a_form_is_counted_alone() -> None:
    headers = {**FORM_HEADERS, "content-length": str(len(FORM))}

    assert (await read(request_of([FORM], headers), len(FILE)))[0] == FILE
    with pytest.raises(Problem, match="at most"):
        await read(request_of([FORM], headers), len(FILE) - 1)


class Anything(BaseModel):
    """What any JSON object is."""


async def test_a_json_body_of_which_nothing_comes_is_cut_like_a_picture() -> None:
    request = request_of([b"{"], {"content-length": "5"}, pause_s=10)
    with pytest.raises(Problem, match="Nothing came") as cut:
        await read_json(request, Anything, chunk_within_s=0.01)

    assert cut.value.response().status_code == 408


async def test_a_json_body_that_breaks_off_is_a_problem() -> None:
    begin: dict[str, Any] = {"type": "http.request", "body": b"{", "more_body": True}
    messages = iter([begin, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    raw = [(b"content-length", b"5")]
    with pytest.raises(Problem, match="ended before the body"):
        await read_json(Request({"type": "http", "method": "POST", "headers": raw}, receive), Anything)
