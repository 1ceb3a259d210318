"""Messages as frames of a WebSocket: the real process, and a client that apps use."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.face import SECRET, FaceProcess, start_face
from tests.support.outcomes import Outcomes, outcomes_at
from tests.support.served import catalog_url, keys_at
from tests.support.workplace import Workplace
from worker.documents import payload
from worker.http.tokens import Tokens

PAGES = "https://app.example"


@pytest.fixture(scope="module")
def secret(place: Workplace) -> str:
    """The secret of a key that sees everything."""
    return keys_at(place, {"all": (None, None)})["all"]


@pytest.fixture(scope="module")
def face(place: Workplace, secret: str) -> FaceProcess:
    """One server for the module's tests, with room for three streams."""
    return start_face(place, MEDIA_HTTP_ORIGINS=PAGES, MEDIA_HTTP_STREAMS="3")


@pytest.fixture
async def outcomes(place: Workplace) -> AsyncIterator[Outcomes]:
    async with outcomes_at(catalog_url(place), place.redis_url) as outcomes:
        yield outcomes


def opening(face: FaceProcess, secret: str = "", query: str = "", **options: Any) -> connect:
    """A WebSocket of that server."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    url = f"{face.url.replace('http:', 'ws:')}/v1/events/ws{query}"
    return connect(url, additional_headers=headers, **options)


async def next_seqs(websocket: ClientConnection, count: int) -> list[int]:
    """The numbers of the next messages."""
    seqs: list[int] = []
    async with asyncio.timeout(20):
        while len(seqs) < count:
            seqs += [message["seq"] for message in json.loads(await websocket.recv())]
    return seqs


async def close_code(websocket: ClientConnection) -> tuple[int, str]:
    """With which code and reason the server closes."""
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(websocket.recv(), 20)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def test_a_frame_is_an_array_of_the_messages_that_came_at_once(
    face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    async with opening(face, secret, "?since=0") as websocket:
        made = await outcomes.flood(5)
        frame = json.loads(await websocket.recv())

    assert frame == [payload(message) for message in made]


async def test_what_came_after_a_number_is_sent_first(
    face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    first, second = [await outcomes.ready(f"uploads/w/{number}.jpg") for number in range(2)]

    async with opening(face, secret, f"?since={first.seq}") as websocket:
        third = await outcomes.ready("uploads/w/3.jpg")

        assert await next_seqs(websocket, 2) == [second.seq, third.seq]


async def test_numbers_of_another_catalog_are_a_gap(
    face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    last = await outcomes.ready("uploads/w/a.jpg")

    async with opening(face, secret, f"?since={2**50}") as websocket:
        assert json.loads(await websocket.recv()) == [{"type": "gap", "from": 1, "to": last.seq}]


async def test_a_page_offers_its_token_as_a_subprotocol_and_gets_the_other_one(
    face: FaceProcess, outcomes: Outcomes
) -> None:
    token = Tokens(SECRET).sign(int(time.time()) + 60, {})
    cat = await outcomes.queued("uploads/http/cat.jpg")
    offered = [Subprotocol("media-events"), Subprotocol(f"media-token.{token}")]

    async with opening(face, query=f"?id={cat}", subprotocols=offered, origin=PAGES) as websocket:
        message = await outcomes.finish(cat)

        assert await next_seqs(websocket, 1) == [message.seq]
        assert websocket.subprotocol == "media-events"
    assert token not in face.text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "unauthorized"),
        ({"secret": "mw_wrong"}, "unauthorized"),
        ({"subprotocols": ["media-events", "media-token.x.y.z"]}, "unauthorized"),
        ({"subprotocols": ["media-events", "media-token.mw_key"]}, "unauthorized"),
        ({"origin": "https://evil.example"}, "forbidden"),
    ],
)
async def test_who_has_no_right_is_told_so_by_the_code_of_the_close(
    face: FaceProcess, options: dict[str, Any], reason: str
) -> None:
    async with opening(face, **options) as websocket:
        code, said = await close_code(websocket)

    assert (code, said.partition(":")[0]) == (1008, reason)


@pytest.mark.parametrize("query", ["?since=-1", "?id=x", "?page=2"])
async def test_parameters_that_are_wrong_close_it(face: FaceProcess, secret: str, query: str) -> None:
    async with opening(face, secret, query) as websocket:
        code, said = await close_code(websocket)

    assert (code, said.partition(":")[0]) == (1008, "bad_request")


async def test_a_page_of_the_same_host_may_connect(
    face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    async with opening(face, secret, origin=face.url) as websocket:
        message = await outcomes.ready("uploads/w/b.jpg")

        assert await next_seqs(websocket, 1) == [message.seq]


async def test_more_streams_than_the_server_keeps_are_told_to_come_later(
    face: FaceProcess, secret: str
) -> None:
    async with opening(face, secret), opening(face, secret), opening(face, secret) as last:
        await last.ping()
        async with opening(face, secret) as one_more:
            code, reason = await close_code(one_more)
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {secret}"}) as client:
            answer = await client.get(f"{face.url}/v1/events")

    assert (code, reason.partition(":")[0]) == (1013, "busy")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.headers["retry-after"] == "2"


async def test_what_a_client_says_is_ignored_unless_it_is_large(
    face: FaceProcess, secret: str, outcomes: Outcomes
) -> None:
    async with opening(face, secret) as websocket:
        await websocket.send("hello")
        message = await outcomes.ready("uploads/w/c.jpg")
        assert await next_seqs(websocket, 1) == [message.seq]
        await websocket.send("x" * 2000)

        assert (await close_code(websocket))[0] == 1009


async def test_without_an_upgrade_the_way_is_shown(face: FaceProcess) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{face.url}/v1/events/ws")

    assert (answer.status_code, answer.json()["code"]) == (426, "bad_request")
    assert answer.headers["upgrade"] == "websocket"
