"""What is around all routes: compression, origins, headers for browsers, and the access log."""

import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer
from tests.support.face import HERE, settings_in
from worker.http.app import build
from worker.http.face import Face
from worker.http.parameters import DirectRoute
from worker.queue import Queue

PAGE = "https://app.example.com"
LIST = orjson.dumps({"items": [{"id": str(number), "state": "ready"} for number in range(100)]})
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Opens = Callable[..., Any]


def routes_of_the_tests() -> APIRouter:
    """Answers of each kind."""
    router = APIRouter()

    @router.get("/list")
    async def _list() -> Response:
        return Response(LIST, headers={"ETag": '"1"'}, media_type="application/json")

    @router.get("/small")
    async def _small() -> Response:
        return Response(b"{}", media_type="application/json")

    @router.get("/picture")
    async def _picture() -> Response:
        return Response(bytes(5000), media_type="image/jpeg")

    @router.get("/packed")
    async def _packed() -> Response:
        headers = {"Content-Encoding": "zstd"}
        return Response(bytes(5000), headers=headers, media_type="application/json")

    @router.get("/stream")
    async def _stream(kind: str) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"data: 1\n\n" * 300

        return StreamingResponse(parts(), media_type=kind)

    @router.get("/broken")
    async def _broken() -> Response:
        raise ValueError("a secret reason")

    @router.post("/of-tests/v1/uploads")
    async def _upload(request: Request) -> Response:
        body = await request.body()
        return Response(body, 201, {"Location": "/v1/uploads/4a2ca705-03aa-52b8-a8b8-e2aa1374070e"})

    @router.get("/of-tests/v1/uploads/{upload_id}")
    async def _one(upload_id: str) -> Response:
        return Response(b"{}")

    return router


@pytest.fixture
def open_around(tmp_path: Path, server: RedisServer, queue: Queue) -> Opens:
    @asynccontextmanager
    async def opens(peer: str = "127.0.0.1", **settings: object) -> AsyncIterator[httpx.AsyncClient]:
        app = with_routes(Face(settings_in(tmp_path, server.url, **settings), queue))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            yield client

    return opens


def with_routes(face: Face) -> Any:
    app = build(face)
    app.include_router(routes_of_the_tests())
    return app


ACCEPTED = (
    ("gzip", True),
    ("br;q=1.0, gzip;q=0.5", True),
    ("*", True),
    ("GZip", True),
    ("gzip;q=0", False),
    ("gzip; q=0.000, *", False),
    ("*;q=0", False),
    ("identity", False),
    ("br, zstd", False),
    ("gzip;q=nonsense", False),
    ("notgzip", False),
    ("", False),
)
"""What clients accept, and whether that is what is compressed."""


async def test_json_is_compressed_for_who_accepts_it(open_around: Opens) -> None:
    async with open_around() as client:
        for accepted, is_packed in ACCEPTED:
            async with client.stream("GET", "/list", headers={"Accept-Encoding": accepted}) as answer:
                raw = b"".join([part async for part in answer.aiter_raw()])

            assert (accepted, answer.headers.get("content-encoding") == "gzip") == (accepted, is_packed)
            assert int(answer.headers["content-length"]) == len(raw)
            assert (gzip.decompress(raw) if is_packed else raw) == LIST
            assert answer.headers["vary"] == "Accept-Encoding"
            assert answer.headers["etag"] == ('W/"1"' if is_packed else '"1"')


@pytest.mark.parametrize(
    ("path", "varies"),
    [
        ("/small", True),
        ("/picture", False),
        ("/packed", False),
        ("/stream?kind=text/event-stream", False),
        ("/stream?kind=image/jpeg", False),
        ("/stream?kind=application/json", True),
    ],
)
async def test_what_is_small_packed_sent_in_parts_or_no_text_goes_as_it_is(
    open_around: Opens, path: str, varies: bool
) -> None:
    async with (
        open_around() as client,
        client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer,
    ):
        assert answer.headers.get("content-encoding") in (None, "zstd")
        assert answer.headers.get("vary") == ("Accept-Encoding" if varies else None)


async def test_an_answer_can_be_taken_for_nothing_else_by_a_browser(open_around: Opens) -> None:
    async with open_around() as client:
        for path in ("/list", "/none", "/broken", "/healthz"):
            headers = (await client.get(path)).headers

            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["referrer-policy"] == "no-referrer"


PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, media-metadata, prefer",
}


async def test_no_page_of_another_origin_may_ask_unless_it_is_listed(open_around: Opens) -> None:
    async with open_around() as client:
        preflight = await client.options("/v1/uploads", headers={"Origin": PAGE, **PREFLIGHT})
        answer = await client.get("/list", headers={"Origin": PAGE})

    assert preflight.status_code == 405
    assert not [name for name in (*preflight.headers, *answer.headers) if name.startswith("access-control")]


async def test_a_page_of_a_listed_origin_may_ask_and_read_what_it_needs(open_around: Opens) -> None:
    async with open_around(http_origins=f"https://b.example.com,{PAGE}") as client:
        preflight = await client.options("/v1/uploads", headers={"Origin": PAGE, **PREFLIGHT})
        answer = await client.post("/of-tests/v1/uploads", content=b"a", headers={"Origin": PAGE})
        broken = await client.get("/broken", headers={"Origin": PAGE})

    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert {"Idempotency-Key", "Authorization", "Prefer"} <= set(
        preflight.headers["access-control-allow-headers"].split(", ")
    )
    for each in (answer, broken):
        assert each.headers["access-control-allow-origin"] == PAGE
        assert "origin" in each.headers["vary"].lower()
        assert "access-control-allow-credentials" not in each.headers
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert {"Location", "Upload-Limit", "ETag", "Link", "Retry-After", "Preference-Applied"} <= exposed


@pytest.mark.parametrize(
    "asked",
    [
        {"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"},
        {"Origin": "null", "Access-Control-Request-Method": "POST"},
        {"Origin": PAGE, "Access-Control-Request-Method": "TRACE"},
        {"Origin": PAGE, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-other"},
    ],
)
async def test_what_a_page_may_not_is_told_as_a_problem(open_around: Opens, asked: dict[str, str]) -> None:
    async with open_around(http_origins=PAGE) as client:
        answer = await client.options("/v1/uploads", headers=asked)

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert answer.headers.get("access-control-allow-origin") in (None, PAGE)


# -- the access log


async def logged(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> dict[str, Any]:
    """The line about one request."""
    with capture_logs() as lines:
        await client.request(method, path, **options)
    found = [line for line in lines if line["event"] == "http_request"]
    assert len(found) == 1, lines
    return dict(found[0])


async def test_a_request_is_one_line_that_says_what_it_was(open_around: Opens) -> None:
    async with open_around() as client:
        line = await logged(
            client, "POST", "/of-tests/v1/uploads", content=b"abc", headers={"traceparent": TRACE}
        )

    assert line.pop("ms") >= 0
    assert line == {
        "event": "http_request",
        "log_level": "info",
        "method": "POST",
        "path": "/of-tests/v1/uploads",
        "route": "/of-tests/v1/uploads",
        "status": 201,
        "bytes_in": 3,
        "bytes_out": 3,
        "client": "127.0.0.1",
        "upload": "4a2ca705-03aa-52b8-a8b8-e2aa1374070e",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


async def test_a_line_names_the_route_the_upload_and_no_trace_that_is_none(open_around: Opens) -> None:
    path = "/of-tests/v1/uploads/4a2ca705-03aa-52b8-a8b8-e2aa1374070e"
    async with open_around() as client:
        line = await logged(client, "GET", path, headers={"traceparent": "00-1-2-3"})

    assert (line["route"], line["path"]) == ("/of-tests/v1/uploads/{upload_id}", path)
    assert line["upload"] == "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"
    assert "trace_id" not in line


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/files/a.jpg?expires=17&signature=abcdef&v=1", "/files/a.jpg?expires=…&signature=…&v=1"),
        ("/v1/events?token=eyJhbGciOiJIUzI1NiJ9.e30.abc", "/v1/events?token=…"),
        ("/v1/events?%74oken=abc", "/v1/events?%74oken=…"),
        ("/v1/uploads/mw_0123456789abcdef", "/v1/uploads/…"),
        ("/none?q=mw%5F0123456789abcdef", "/none?q=…"),
        ("/none?api_key=1&password=2&x=3", "/none?api_key=…&password=…&x=3"),
        ("/none/%0a%1b[31m", "/none/%0a%1b[31m"),
    ],
)
async def test_no_secret_and_no_control_character_gets_into_a_line(
    open_around: Opens, path: str, shown: str
) -> None:
    async with open_around() as client:
        line = await logged(client, "GET", path, headers={"Authorization": "Bearer mw_0123456789abcdef"})

    assert line["path"] == shown
    assert "mw_0123456789" not in str(line)


async def test_a_long_path_is_cut(open_around: Opens) -> None:
    async with open_around() as client:
        line = await logged(client, "GET", "/" + "a" * 5000)

    assert len(line["path"]) == 501


async def test_probes_that_succeed_are_no_lines_and_those_that_fail_are(open_around: Opens) -> None:
    async with open_around() as client:  # whose catalog is not there
        with capture_logs() as lines:
            await client.get("/healthz")
            await client.get("/readyz")

    assert [line["path"] for line in lines if line["event"] == "http_request"] == ["/readyz"]


async def test_an_error_of_the_server_is_a_problem_without_its_reason_and_one_traceback(
    open_around: Opens,
) -> None:
    async with open_around() as client:
        with capture_logs() as lines:
            answer = await client.get("/broken")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert [line["event"] for line in lines if "http_w" not in line["event"]].count("request_crashed") == 1


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("10.1.2.3", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "not an address", "127.0.0.1"),
        ("127.0.0.1", "6.6.6.6, junk", "127.0.0.1"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
    ],
)
async def test_only_proxies_of_ours_are_believed_when_they_say_who_asks(
    open_around: Opens, peer: str, forwarded: str, client: str
) -> None:
    async with open_around(peer, http_proxies="127.0.0.1, 10.0.0.0/8") as asking:
        line = await logged(asking, "GET", "/list", headers={"X-Forwarded-For": forwarded})

    assert line["client"] == client


async def test_nobody_is_believed_unless_the_settings_say_so(open_around: Opens) -> None:
    async with open_around() as client:
        line = await logged(client, "GET", "/list", headers={"X-Forwarded-For": "203.0.113.9"})

    assert line["client"] == "127.0.0.1"


async def test_a_request_whose_client_leaves_says_so(
    tmp_path: Path, server: RedisServer, queue: Queue
) -> None:
    async def leaves() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def nobody(_: Any) -> None:
        """Nobody is there."""

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/of-tests/v1/uploads",
        "raw_path": b"/of-tests/v1/uploads",
        "query_string": b"",
        "headers": [],
        "client": None,
    }
    face = Face(settings_in(tmp_path, server.url), queue)
    with capture_logs() as lines:
        await with_routes(face)(scope, leaves, nobody)

    assert [line["event"] for line in lines if line["log_level"] == "error"] == []
    assert [line["aborted"] for line in lines if line["event"] == "http_request"] == [True]


async def test_every_route_reads_its_parameters_in_one_step(
    tmp_path: Path, server: RedisServer, queue: Queue
) -> None:
    app = build(Face(settings_in(tmp_path, server.url), queue))

    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) > 15
    assert [route.path for route in routes if not isinstance(route, DirectRoute)] == []


@pytest.fixture(autouse=True)
def _unconfigured() -> None:
    structlog.reset_defaults()
