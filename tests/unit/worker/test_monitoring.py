"""The endpoints of probes and metrics: what they answer, to whom, and that nobody can take them down."""

import asyncio
import json
import select
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.ports import free_port
from worker import monitoring, status
from worker.listening import CannotListen
from worker.monitoring import MOST_CLIENTS, PATIENCE_S, serving
from worker.status import CheckResult, Status

WELL = {"redis": CheckResult(True)}
METRICS = b"# HELP media_up a series\nmedia_up 1\n"


@pytest.fixture
async def served() -> AsyncIterator[tuple[int, Status]]:
    port, of_worker = free_port(), Status()
    async with serving(("127.0.0.1", port), of_worker, lambda: METRICS):
        yield port, of_worker


def ask(port: int, path: str, method: str = "GET", body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
    """The answer, asked for by a thread that holds the event loop up."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer, answer.read()


def asked(port: int, path: str) -> tuple[int, Any]:
    answer, body = ask(port, path)
    return answer.status, json.loads(body)


async def test_a_blocked_loop_is_told_while_it_is_blocked(
    served: tuple[int, Status], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, of_worker = served
    monkeypatch.setattr(status, "BLOCKED_S", 0.05)
    of_worker.tick()
    assert asked(port, "/healthz") == (200, {"status": "ok", "reason": None})

    time.sleep(0.1)  # noqa: ASYNC251 (this is the block)

    code, told = asked(port, "/healthz")
    assert (code, told["status"]) == (503, "unhealthy")
    assert "blocked" in told["reason"]


async def test_readiness_is_a_document_with_every_check_by_name(served: tuple[int, Status]) -> None:
    port, of_worker = served
    assert asked(port, "/readyz")[0] == 503

    of_worker.checked(WELL)
    of_worker.found_degraded({"sweep": "the last one was stopped"})

    assert asked(port, "/readyz") == (
        200,
        {
            "status": "degraded",
            "reason": "sweep: the last one was stopped",
            "checks": {"redis": {"ok": True, "reason": None}},
            "degraded": {"sweep": "the last one was stopped"},
        },
    )


async def test_a_reason_with_bytes_that_are_no_text_is_told_all_the_same(served: tuple[int, Status]) -> None:
    port, of_worker = served
    of_worker.checked({"storage": CheckResult(False, "/srv/\udcff: it is full")})

    code, told = asked(port, "/readyz")

    assert (code, told["reason"]) == (503, "storage: /srv/\udcff: it is full")


async def test_metrics_are_what_the_worker_counts(served: tuple[int, Status]) -> None:
    answer, body = ask(served[0], "/metrics?name[]=media_up")

    assert (answer.status, body) == (200, METRICS)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_that_cannot_be_made_are_an_error_and_the_probes_go_on() -> None:
    port = free_port()
    async with serving(("127.0.0.1", port), Status(), lambda: bytes(-1)):
        with capture_logs() as logged:
            failed, _ = ask(port, "/metrics")

        assert failed.status == 500
        assert [line["event"] for line in logged] == ["metrics_failed"]
        assert asked(port, "/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/nothing"])
async def test_head_has_the_status_and_the_length_and_no_body(served: tuple[int, Status], path: str) -> None:
    get, body = ask(served[0], path)
    head, nothing = ask(served[0], path, "HEAD")

    assert (head.status, head.headers["Content-Length"]) == (get.status, str(len(body)))
    assert nothing == b""


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("POST", "/metrics", 405), ("DELETE", "/readyz", 405), ("GET", "/", 404), ("POST", "/x", 404)],
)
async def test_nothing_else_is_served(served: tuple[int, Status], method: str, path: str, code: int) -> None:
    answer, _ = ask(served[0], path, method, b"x" * 1000)

    assert answer.status == code
    assert answer.headers["Allow"] == ("GET, HEAD" if code == 405 else None)


@pytest.mark.parametrize("request_", [b"\x16\x03\x01\r\n\r\n", b"GET /healthz\r\n\r\n", b"x" * 20_000])
async def test_what_is_no_http_is_refused(served: tuple[int, Status], request_: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", served[0]))) as client:
        client.sendall(request_)

        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


async def test_clients_that_say_nothing_or_too_little_keep_nobody_from_being_answered(
    served: tuple[int, Status],
) -> None:
    port, threads = served[0], threading.active_count()
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(5 * MOST_CLIENTS):
            clients.append(stack.enter_context(closing(socket.create_connection(("127.0.0.1", port)))))
            clients[-1].sendall(b"GET /healthz HTTP/1.1\r\nX: "[: number % 20])
        began = time.monotonic()
        code, _ = asked(port, "/healthz")
        took = time.monotonic() - began
        while len(cut := select.select(clients, [], [], 5)[0]) < 4 * MOST_CLIENTS:
            assert time.monotonic() - began < PATIENCE_S  # after which all are
        assert threading.active_count() == threads

    assert (code, took < 2) == (200, True)
    assert clients[0] in cut


async def test_a_client_that_is_too_slow_loses_its_connection(
    served: tuple[int, Status], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "PATIENCE_S", 0.05)
    with closing(socket.create_connection(("127.0.0.1", served[0]), timeout=10)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")

        assert client.recv(100) == b""


async def test_a_client_that_has_no_more_to_say_gets_the_whole_answer() -> None:
    port, much = free_port(), b"x" * 4_000_000
    async with serving(("127.0.0.1", port), Status(), lambda: much):
        with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            parts = list(iter(lambda: client.recv(100_000), b""))

    assert b"".join(parts).endswith(b"\r\n\r\n" + much)


async def test_a_port_that_is_taken_is_named_with_what_to_do(served: tuple[int, Status]) -> None:
    with pytest.raises(CannotListen, match=rf"127.0.0.1:{served[0]} is in use, .* a port of its own"):
        async with serving(("127.0.0.1", served[0]), Status(), lambda: b""):
            pass


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "no address of this machine"), ("no-such-host.invalid", "there is no address for")],
)
async def test_a_host_that_is_not_this_machine_is_refused(host: str, reason: str) -> None:
    with pytest.raises(CannotListen, match=reason):
        async with serving((host, free_port()), Status(), lambda: b""):
            pass


async def test_after_the_end_the_port_is_free_at_once() -> None:
    port = free_port()
    for _ in range(2):
        async with serving(("127.0.0.1", port), Status(), lambda: b""):
            assert asked(port, "/healthz")[0] == 200

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_every_address_of_ipv6_is_every_address_of_ipv4_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    port = free_port()
    async with serving(("::", port), Status(), lambda: b""):
        assert asked(port, "/healthz")[0] == 200


def test_an_event_loop_of_the_worker_is_not_needed_to_answer() -> None:
    port = free_port()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(serving(("127.0.0.1", port), Status(), lambda: b"")))

        assert asked(port, "/healthz")[0] == 200  # no loop runs in this thread

        runner.run(stack.aclose())
