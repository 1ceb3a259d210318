"""How streams of messages end: by the server's stop, by kill -9, and by a client that takes nothing."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.event_source import event_source
from tests.support.face import FaceProcess, start_face
from tests.support.outcomes import Outcomes, outcomes_at
from tests.support.processes import proportional_kib
from tests.support.served import catalog_url, client_of, installed, keys_at
from tests.support.workplace import Workplace, eventually

pytestmark = [WITH_SERVICES, pytest.mark.rotating(3, of="module")]

SLOW = 40  # clients that take nothing, at once


@pytest.fixture
def place(redis_server: RedisServer, migrated: Path, tmp_path: Path) -> Iterator[Workplace]:
    place = installed(tmp_path, redis_server.url, migrated)
    yield place
    place.close()


@pytest.fixture
def secret(place: Workplace) -> str:
    return keys_at(place, {"all": (None, None)})["all"]


@pytest.fixture
def face(place: Workplace, secret: str) -> FaceProcess:
    return start_face(place)


@pytest.fixture
async def outcomes(place: Workplace) -> AsyncIterator[Outcomes]:
    async with outcomes_at(catalog_url(place), place.redis_url) as outcomes:
        yield outcomes


UPGRADE = """Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==
"""


@contextmanager
def taking_nothing(
    face: FaceProcess, secret: str, since: int, path: str = "/v1/events"
) -> Iterator[socket.socket]:
    """A client that asks for a stream, and never reads it."""
    host, port = face.url.removeprefix("http://").split(":")
    asked = f"GET {path}?since={since} HTTP/1.1\nHost: {host}:{port}\nAuthorization: Bearer {secret}\n"
    more = UPGRADE if path.endswith("/ws") else "Accept: text/event-stream\n"
    with closing(socket.socket()) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel takes it all
        opened.connect((host, int(port)))
        opened.sendall(f"{asked}{more}\n".replace("\n", "\r\n").encode())
        yield opened


def is_held(opened: socket.socket) -> bool:
    """Whether the server still has its end of that connection: what the system alone has, has no inode."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    theirs = f":{opened.getsockname()[1]:04X}"
    return any(fields[2].endswith(theirs) and fields[9] != "0" for fields in map(str.split, lines))


async def test_sigterm_ends_every_stream_within_a_second(
    place: Workplace, face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    before = await outcomes.ready("uploads/a.jpg")
    await outcomes.flood(400, 20_000)
    async with AsyncExitStack() as stack:
        for path in ("/v1/events", "/v1/events/ws"):
            stack.enter_context(taking_nothing(face, secret, before.seq, path))
        client = await stack.enter_async_context(client_of(face, secret))
        stream = await stack.enter_async_context(event_source(client))
        url = f"{face.url.replace('http', 'ws')}/v1/events/ws"
        websocket = await stack.enter_async_context(
            connect(url, additional_headers={"Authorization": f"Bearer {secret}"})
        )
        began = time.monotonic()
        face.signal(signal.SIGTERM)

        with pytest.raises(EOFError):
            await stream.next()
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
        assert await asyncio.to_thread(face.wait) == 0
        assert time.monotonic() - began < 1 + 2  # on a busy machine
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


@pytest.mark.rotating(1)
async def test_kill_9_and_a_new_server_leave_no_hole(
    place: Workplace, face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    seen: list[int] = []
    async with client_of(face, secret) as client, event_source(client) as stream:
        first = await outcomes.ready("uploads/0.jpg")
        seen.append((await stream.next()).id or 0)
        face.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            await stream.next()
    made = [await outcomes.ready(f"uploads/{number}.jpg", announced=False) for number in range(1, 4)]
    again = start_face(place)
    async with client_of(again, secret) as client, event_source(client, last=seen[-1]) as stream:
        made.append(await outcomes.ready("uploads/4.jpg"))
        seen += [event.id or 0 for event in await stream.take(4)]

    assert seen == [message.seq for message in (first, *made)]


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/ws"])
async def test_a_client_that_takes_nothing_is_cut_and_others_get_theirs(
    face: FaceProcess, secret: str, outcomes: Outcomes, path: str
) -> None:
    before = await outcomes.ready("uploads/a.jpg")
    with taking_nothing(face, secret, before.seq, path) as opened:
        await outcomes.flood(40, 20_000)  # which takes more than the kernel holds
        async with client_of(face, secret) as client, event_source(client) as stream:
            message = await outcomes.ready("uploads/b.jpg")
            assert (await stream.next()).id == message.seq
            assert is_held(opened)

            cut = await asyncio.to_thread(face.await_log, "stream_cut")
            assert cut["key"] == "all"
            assert cut["unsent"] <= 64 * 1024
        await asyncio.to_thread(eventually, lambda: not is_held(opened), 2)


@pytest.mark.parametrize("database_kind", ["sqlite", "postgres"])
async def test_an_upload_of_a_real_worker_is_told_as_soon_as_it_is_ready(
    workplace: Workplace, catalog_url: str
) -> None:
    place = workplace
    place.settings["MEDIA_CATALOG_URL"] = catalog_url
    place.start()
    face = start_face(place)
    async with client_of(face) as client, event_source(client) as stream:
        place.send({"source": place.put("uploads/a.jpg", pictures.small())})
        event = await stream.next()

        assert event.type == "upload.ready"
        assert [event.data] == place.listen(len)


async def test_clients_that_take_nothing_cost_little_memory(
    face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    before = await outcomes.ready("uploads/a.jpg")
    async with client_of(face, secret) as client, event_source(client, last=before.seq) as stream:
        await outcomes.flood(400, 20_000)
        await stream.take(400)
        kib = proportional_kib([face.pid])
        with ExitStack() as stack:
            for _ in range(SLOW):
                stack.enter_context(taking_nothing(face, secret, before.seq))
            await asyncio.to_thread(face.await_log, "stream_cut")  # the first of them: all have their fill
            more = proportional_kib([face.pid]) - kib

    assert more < SLOW * 100


def test_who_leaves_before_the_stream_began_is_no_error(face: FaceProcess, secret: str) -> None:
    for path in ("/v1/events", "/v1/events/ws"):
        for _ in range(30):
            with taking_nothing(face, secret, 0, path):
                pass

    eventually(lambda: len(face.logged("http_request")) == 60)
    assert face.logged("request_crashed") == []
