"""One attempt to deliver a webhook to a server that answers as no good one does."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.receiver import SECRET, receiving
from worker.webhooks.endpoint import WebhookEndpoint
from worker.webhooks.sending import MOST_OF_REQUEST, WebhookSender
from worker.webhooks.signing import parse_secrets

Writing = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def sending_to(write: Writing, timeout_s: float) -> AsyncIterator[WebhookSender]:
    """Sends to a server that answers each connection by `write`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await write(writer)
            await reader.read()  # until the client has gone
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    sender = WebhookSender(WebhookEndpoint(url, parse_secrets(SECRET), True, timeout_s), 1, lambda: 0)
    try:
        yield sender
    finally:
        await sender.close()
        server.close()


@pytest.mark.parametrize(("status", "outcome"), [(200, "delivered"), (500, "refused"), (410, "gone")])
async def test_a_status_counts_though_the_body_does_not_come_within_the_time(
    status: int, outcome: str
) -> None:
    async def begin(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 10\r\n\r\nok" % status)
        await writer.drain()

    async with sending_to(begin, timeout_s=0.5) as sender:
        answer = await sender.send("msg_1", b"{}")

    assert answer.outcome == outcome


@pytest.mark.parametrize(
    "given",
    [
        "Wed, 21 Oct 99999999999 07:28:00 GMT",
        "Wed, 21 Oct 2030 07:28:00 +99999999999999999999",
        "Wed, 99 Oct 2030 07:28:00 GMT",
        "soon",
        "-5",
    ],
)
async def test_a_retry_after_that_names_no_time_asks_for_no_pause(given: str) -> None:
    async def refuse(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 503 X\r\nretry-after: {given}\r\ncontent-length: 4\r\n\r\nbusy".encode())
        await writer.drain()

    async with sending_to(refuse, timeout_s=10) as sender:
        answer = await sender.send("msg_1", b"{}")

    assert (answer.outcome, answer.problem, answer.pause_s) == ("refused", "it answered 503: busy", 0)


async def test_of_interim_answers_without_end_no_more_is_read_than_may_come() -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"HTTP/1.1 100 \r\n\r\n" * 400)
            await writer.drain()
            sent += 1

    async with sending_to(flood, timeout_s=60) as sender:
        answer = await sender.send("msg_1", b"{}")

    assert (answer.outcome, answer.problem) == (
        "unreachable",
        f"more than {MOST_OF_REQUEST // 1024} KiB came",
    )
    assert sent > 0


class Searches(list[str]):
    """The modules that were searched for in vain, or not."""

    def find_spec(self, name: str, *_: object) -> None:
        self.append(name)


async def test_no_message_costs_a_search_for_modules_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched = Searches()
    with receiving() as receiver:
        endpoint = WebhookEndpoint(receiver.url, parse_secrets(SECRET), True, 10)
        sender = WebhookSender(endpoint, 1, lambda: 0)
        await sender.send("msg_1", b"{}")
        monkeypatch.setattr(sys, "meta_path", [searched, *sys.meta_path])
        answer = await sender.send("msg_2", b"{}")
        await sender.close()

    assert answer.outcome == "delivered"
    assert searched == []


async def test_a_connection_that_the_server_has_closed_meanwhile_is_used_no_more() -> None:
    served = 0
    again = asyncio.Event()

    async def write(writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        again.set()

    async with sending_to(write, timeout_s=10) as sender:
        first = await sender.send("msg_1", b"{}")
        await again.wait()
        second = await sender.send("msg_2", b"{}")

    assert (first.outcome, second.outcome, served) == ("delivered", "delivered", 2)
