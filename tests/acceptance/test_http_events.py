"""Messages over HTTP: the real process, real sockets, and clients of every kind."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from tests.support.event_source import event_source
from tests.support.face import SECRET, FaceProcess, start_face
from tests.support.outcomes import Outcomes, outcomes_at
from tests.support.served import catalog_url, client_of, keys_at
from tests.support.workplace import Workplace
from worker.documents import payload
from worker.http.tail import RING
from worker.http.tokens import Tokens

KEYS = {"all": (None, None), "mine": ("mine", None), "below": (None, "uploads/a/b/")}
"""Keys that read, by the owner and the prefix that they are bound to."""


@pytest.fixture(scope="module")
def secrets(place: Workplace) -> dict[str, str]:
    """The secret of each key."""
    return keys_at(place, KEYS)


@pytest.fixture(scope="module")
def face(place: Workplace, secrets: dict[str, str]) -> FaceProcess:
    """One server for the module's tests."""
    return start_face(place)


@pytest.fixture
async def outcomes(place: Workplace) -> AsyncIterator[Outcomes]:
    async with outcomes_at(catalog_url(place), place.redis_url) as outcomes:
        yield outcomes


@pytest.fixture
async def client(face: FaceProcess, secrets: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key that sees everything."""
    async with client_of(face, secrets["all"]) as client:
        yield client


async def test_an_event_is_the_message_of_the_stream_with_its_seq_as_its_id(
    client: httpx.AsyncClient, outcomes: Outcomes
) -> None:
    async with event_source(client) as stream:
        message = await outcomes.ready("uploads/a.jpg")
        event = await stream.next()

    assert (event.id, event.type) == (message.seq, "upload.ready")
    assert event.data == payload(message)
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["cache-control"] == "no-store"
    assert stream.response.headers["x-accel-buffering"] == "no"


async def test_what_was_missed_comes_first_and_once(client: httpx.AsyncClient, outcomes: Outcomes) -> None:
    missed = [await outcomes.ready(f"uploads/missed/{number}.jpg") for number in range(3)]

    async with event_source(client, last=missed[0].seq) as stream:
        new = await outcomes.ready("uploads/new.jpg")
        seqs = [event.id for event in await stream.take(3)]

    assert seqs == [missed[1].seq, missed[2].seq, new.seq]


async def test_a_browser_that_comes_back_goes_on_where_it_was_and_not_where_its_url_began(
    client: httpx.AsyncClient, outcomes: Outcomes
) -> None:
    first, second, third = [await outcomes.ready(f"uploads/back/{number}.jpg") for number in range(3)]

    async with event_source(client, since=first.seq) as stream:
        assert (await stream.next()).id == second.seq
    async with event_source(client, since=first.seq, last=second.seq) as stream:
        assert (await stream.next()).id == third.seq


async def test_more_than_the_ring_keeps_is_replayed_from_the_outbox(
    client: httpx.AsyncClient, outcomes: Outcomes
) -> None:
    before = await outcomes.ready("uploads/before.jpg")
    made = await outcomes.flood(1500, 100)

    async with event_source(client, last=before.seq) as stream:
        seqs = [event.id for event in await stream.take(1500)]

    assert seqs == [message.seq for message in made]


async def test_a_stream_of_one_upload_has_its_messages_alone(
    client: httpx.AsyncClient, outcomes: Outcomes
) -> None:
    cat = await outcomes.queued("uploads/one/cat.jpg")
    async with event_source(client, id=cat) as stream:
        await outcomes.ready("uploads/one/dog.jpg")
        message = await outcomes.finish(cat)

        assert (await stream.next()).id == message.seq


async def test_messages_that_are_forgotten_are_a_gap(client: httpx.AsyncClient, outcomes: Outcomes) -> None:
    outbox = outcomes.catalog.outbox
    await outcomes.flood(5)
    while unsent := await outbox.unsent():
        await outbox.mark_sent(unsent)
    while await outbox.prune(outbox.now_ms() + 1000):
        pass
    kept, *_ = await outcomes.flood(RING + 1)

    async with event_source(client, last=1) as stream:
        gap, event = await stream.take(2)

    assert (gap.type, gap.id, gap.data) == ("gap", kept.seq - 1, {"from": 2, "to": kept.seq - 1})
    assert event.id == kept.seq


async def test_an_id_that_no_message_had_yet_is_a_gap_up_to_now(
    client: httpx.AsyncClient, outcomes: Outcomes
) -> None:
    before = await outcomes.ready("uploads/a.jpg")

    async with event_source(client, last=2**50) as stream:
        gap = await stream.next()
        message = await outcomes.ready("uploads/b.jpg")

        assert gap.data == {"from": 1, "to": before.seq}
        assert (await stream.next()).id == message.seq


@pytest.mark.parametrize("wrong", ["-1", "abc", "1.5", "9" * 17])
async def test_an_id_that_is_none_of_ours_is_refused(client: httpx.AsyncClient, wrong: str) -> None:
    answer = await client.get("/v1/events", headers={"Last-Event-ID": wrong})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_pages_of_messages_are_read_one_after_the_other(
    client: httpx.AsyncClient, outcomes: Outcomes
) -> None:
    accept = {"Accept": "application/json"}
    now = (await client.get("/v1/events", headers=accept)).json()
    made = [(await outcomes.ready(f"uploads/page/{number}.jpg")).seq for number in range(5)]

    first = (await client.get(f"/v1/events?since={now['last']}&limit=3", headers=accept)).json()
    second = (await client.get(f"/v1/events?since={first['next']}&limit=3", headers=accept)).json()

    assert (now["items"], now["next"]) == ([], None)
    assert [item["seq"] for item in first["items"] + second["items"]] == made
    assert (first["last"], second["last"], second["next"]) == (made[2], made[4], None)


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("application/json, text/plain, */*", True),
        ("text/event-stream;q=0.5, application/json", True),
        ("text/event-stream", False),
        ("application/json;q=0.1, text/event-stream", False),
        ("application/json;q=0", False),
        ("text/html, */*;q=0.8", False),
        ("", False),
    ],
)
async def test_who_asks_for_json_gets_a_page_and_everybody_else_a_stream(
    client: httpx.AsyncClient, accept: str, is_page: bool
) -> None:
    async with client.stream("GET", "/v1/events", headers={"Accept": accept}) as answer:
        kind = answer.headers["content-type"].partition(";")[0]

    assert kind == ("application/json" if is_page else "text/event-stream")


async def test_a_key_of_an_owner_gets_messages_of_that_owner_alone(
    face: FaceProcess, secrets: dict[str, str], outcomes: Outcomes
) -> None:
    before = await outcomes.ready("uploads/other/0.jpg")
    async with (
        client_of(face, secrets["mine"]) as mine,
        event_source(mine) as stream,
        event_source(mine, id=before.id, last=0) as foreign,
    ):
        await outcomes.ready("uploads/other/1.jpg")
        await outcomes.flood(3)  # about no upload
        message = await outcomes.ready("uploads/mine/1.jpg")

        assert (await stream.next()).id == message.seq
        page = await mine.get(f"/v1/events?since={before.seq}", headers={"Accept": "application/json"})
        assert [item["seq"] for item in page.json()["items"]] == [message.seq]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(foreign.next(), 0.1)


async def test_a_page_about_anothers_upload_is_that_of_an_unknown_one(
    face: FaceProcess, secrets: dict[str, str], outcomes: Outcomes
) -> None:
    theirs = (await outcomes.ready("uploads/other/2.jpg")).id
    accept = {"Accept": "application/json"}
    async with client_of(face, secrets["mine"]) as mine:
        pages = [await mine.get(f"/v1/events?since=0&id={id}", headers=accept) for id in (theirs, uuid4())]

    assert pages[0].json() == pages[1].json() == {"items": [], "next": None, "last": 0, "gap": None}


async def test_a_key_of_a_prefix_gets_messages_of_sources_below_it(
    face: FaceProcess, secrets: dict[str, str], outcomes: Outcomes
) -> None:
    async with client_of(face, secrets["below"]) as below, event_source(below) as stream:
        await outcomes.ready("uploads/a/c.jpg")
        await outcomes.flood(1, source="uploads/a/b/c.jpg")  # as of an entry that was refused
        message = await outcomes.ready("uploads/a/b/c.jpg")

        assert (await stream.next()).id == message.seq


async def test_a_token_reads_about_one_upload_where_its_uploads_lie(
    face: FaceProcess, outcomes: Outcomes
) -> None:
    token = Tokens(SECRET).sign(int(time.time()) + 60, {})
    theirs, other = await outcomes.queued("uploads/http/t.jpg"), await outcomes.queued("uploads/x/t.jpg")
    async with client_of(face, token) as browser:
        answer = await browser.get("/v1/events")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        async with event_source(browser, id=theirs) as stream, event_source(browser, id=other) as foreign:
            await outcomes.finish(other)
            message = await outcomes.finish(theirs)

            assert (await stream.next()).id == message.seq
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(foreign.next(), 0.1)


async def test_without_a_key_there_is_no_stream(face: FaceProcess, client: httpx.AsyncClient) -> None:
    async with client_of(face) as nobody:
        answer = await nobody.get("/v1/events")

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_what_is_committed_at_once_is_one_write(client: httpx.AsyncClient, outcomes: Outcomes) -> None:
    async with client.stream("GET", "/v1/events") as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"retry: 2000\n\n"
        made = await outcomes.flood(20)
        written = (await anext(chunks)).decode()

    assert [line for line in written.splitlines() if line.startswith("id:")] == [
        f"id: {message.seq}" for message in made
    ]
