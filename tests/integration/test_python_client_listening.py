"""How the Python client listens, on a real Redis: order, repeats, failures, deaths, and what is lost."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from media_worker_client import AsyncMediaClient, FileCursor, MediaClient, MediaTimeout, MemoryCursor, Message
from scripts.redis_server import RedisServer
from tests.chaos.own_redis import OwnRedis
from tests.support.listening_app import Failing, listening_app
from tests.support.two_streams import GROUP, A, B, TwoStreams, seqs
from tests.support.workplace import eventually

CLIENTS = Path(__file__).parents[2] / "clients/python"


@pytest.fixture
def streams(server: RedisServer) -> Iterator[TwoStreams]:
    streams = TwoStreams(server.url)
    yield streams
    streams.redis.close()


@pytest.fixture
def media(streams: TwoStreams) -> Iterator[MediaClient]:
    with MediaClient(streams.url) as media:
        yield media


def test_a_group_has_each_message_once_also_those_from_before_it_was_there(
    streams: TwoStreams, media: MediaClient
) -> None:
    streams.say(A, 1)
    with listening_app(media, group=GROUP) as one, listening_app(media, group=GROUP) as two:
        for seq in range(2, 12):
            streams.say(B, seq)
            eventually(lambda seq=seq: len(one.heard) + len(two.heard) == seq)  # type: ignore[misc]
        eventually(streams.settled)

    assert sorted(seqs([*one.heard, *two.heard])) == [(A, 1), *((B, seq) for seq in range(2, 12))]
    assert streams.redis.xinfo_consumers("media:events", GROUP) == []  # both ended in order


def test_repeats_and_what_is_older_are_dropped(streams: TwoStreams, media: MediaClient) -> None:
    for upload, seq, kind in [(A, 5, "ready"), (A, 5, "ready"), (A, 4, "failed"), (A, 6, "deleted")]:
        streams.say(upload, seq, kind)
    with listening_app(media, group=GROUP) as app:
        app.await_that(lambda heard: (A, 6) in seqs(heard))
        eventually(streams.settled)

    assert seqs(app.heard) == [(A, 5), (A, 6)]


def test_that_work_begins_is_no_news_once_the_outcome_is_there(
    streams: TwoStreams, media: MediaClient
) -> None:
    # It has the `seq` of the message before it, and is not counted as one.
    for seq, kind in [
        (0, "started"),
        (1, "failed"),
        (1, "started"),
        (0, "started"),
        (2, "ready"),
        (1, "started"),
    ]:
        streams.say(A, seq, kind)
    streams.say(B, 3)
    with listening_app(media, group=GROUP) as app:
        app.await_that(lambda heard: (B, 3) in seqs(heard))

    told = [(message.state, message.seq) for message in app.heard]
    assert told == [("processing", 0), ("failed", 1), ("processing", 1), ("ready", 2), ("ready", 3)]


def test_what_other_programs_write_there_is_passed_over(streams: TwoStreams, media: MediaClient) -> None:
    for fields in [{"event": "no JSON"}, {"other": "field"}, {"event": b"\xff\xfe"}, {"event": "[1]"}]:
        streams.redis.xadd("media:events", fields)
    streams.say(A, 1)
    strict = redis.Redis.from_url(streams.url, decode_responses=True)
    with strict, listening_app(MediaClient(strict), group=GROUP) as app:
        app.await_count(1)
        eventually(streams.settled)

    assert seqs(app.heard) == [(A, 1)]


def test_a_handler_that_raises_holds_up_its_own_upload_alone(streams: TwoStreams, media: MediaClient) -> None:
    handler = Failing((A, 1), times=2)
    for upload, seq in [(A, 1), (B, 2), (A, 3)]:
        streams.say(upload, seq)
    with listening_app(media, handler, group=GROUP) as app:
        app.await_that(lambda heard: (B, 2) in seqs(heard))
        assert streams.pending() >= 2
        app.await_count(3)
        eventually(streams.settled)

    assert seqs(app.heard) == [(B, 2), (A, 1), (A, 3)]
    assert handler.tries == [(A, 1), (B, 2), (A, 1), (A, 1), (A, 3)]
    first, second, third = (
        at for at, tried in zip(handler.at, handler.tries, strict=True) if tried == (A, 1)
    )
    assert second - first > 0.45  # the first pause is 0.5 to 1 s
    assert third - second > 0.95


DIES = """
import os, signal, sys
from media_worker_client import MediaClient

def handle(message):
    print(message.seq, flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)  # the handler has done its work, nobody was told
    if message.seq == 2:
        raise KeyboardInterrupt

try:
    MediaClient(sys.argv[1]).listen(handle, group="my-app", consumer="the-one")
except KeyboardInterrupt:
    pass
"""


def test_a_consumer_that_is_killed_before_it_acknowledges_hears_it_again_first(streams: TwoStreams) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CLIENTS)}
    ended = []
    streams.say(A, 1)
    for fate in ("die", "live"):
        command = [sys.executable, "-c", DIES, streams.url, fate]
        ended.append(subprocess.run(command, env=env, capture_output=True, text=True, timeout=60))
        streams.say(A, 2)

    assert [done.stdout.split() for done in ended] == [["1"], ["1", "2"]]
    assert [done.returncode for done in ended] == [-signal.SIGKILL, 0], ended[1].stderr


def test_what_a_dead_consumer_leaves_another_one_takes(streams: TwoStreams, media: MediaClient) -> None:
    streams.say(A, 1)
    streams.redis.xgroup_create("media:events", GROUP, "0")
    streams.redis.xreadgroup(GROUP, "dead", {"media:events": ">"})
    with listening_app(media, group=GROUP, claim_after=0.3) as app:
        app.await_count(1)
        eventually(streams.settled)

    assert seqs(app.heard) == [(A, 1)]


def test_a_message_that_waits_for_another_try_is_kept_from_other_consumers(
    streams: TwoStreams, media: MediaClient
) -> None:
    handler = Failing((A, 1), times=99)
    waiting = streams.say(A, 1)
    with (
        listening_app(media, handler, group=GROUP, consumer="me", claim_after=0.6),
        streams.redis.monitor() as monitor,
    ):
        claims = (one["command"] for one in monitor.listen() if one["command"].startswith("XCLAIM "))

        claim = f"XCLAIM media:events {GROUP} me 0 {waiting} JUSTID"
        assert [next(claims) for _ in range(2)] == [claim] * 2


def test_a_listener_rides_out_a_redis_that_dies_and_one_that_forgets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = OwnRedis(tmp_path / "redis")
    streams = TwoStreams(own.url)
    with MediaClient(own.url) as media, listening_app(media, group=GROUP, pending=lambda: [B]) as app:
        streams.say(A, 1)
        app.await_count(1)
        own.kill()
        own.start()
        streams.say(A, 2)
        app.await_count(2)
        asked = len(streams.questions())
        streams.redis.flushall()  # the group is gone with the stream, and so may be messages
        eventually(lambda: len(streams.questions()) == 1)
        streams.say(A, 3)
        app.await_count(3)

    assert seqs(app.heard) == [(A, 1), (A, 2), (A, 3)]
    assert asked == 1  # when the group was made
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    own.close()


def answer(streams: TwoStreams, **about: Any) -> None:
    """Answer the one question as a worker does."""
    eventually(lambda: len(streams.questions()) == 1)
    [(entry, upload)] = streams.questions().items()
    seq = about.pop("seq", 0)
    streams.say(upload, seq, "status", entry=entry, **about)


@pytest.mark.parametrize("kind", ["group", "cursor"])
def test_a_stream_that_was_trimmed_under_it_is_made_up_for_by_questions(
    streams: TwoStreams, media: MediaClient, kind: str
) -> None:
    cursor = MemoryCursor(streams.say(A, 1))
    options: dict[str, Any] = {"cursor": cursor}
    if kind == "group":
        streams.redis.xgroup_create("media:events", GROUP, cursor.last_id)
        options = {"group": GROUP}
    streams.say(B, 2)
    streams.redis.xtrim("media:events", maxlen=0, approximate=False)
    with listening_app(media, pending=lambda: [B], **options) as app:
        answer(streams, state="ready", seq=2, metadata={"post": 7})
        app.await_count(1)
        streams.say(B, 2)  # the message itself, which was on its way
        streams.say(B, 2)
        streams.say(A, 3)
        app.await_count(3)

    assert seqs(app.heard) == [(B, 2), (B, 2), (A, 3)]
    assert (app.heard[0].type, app.heard[0].metadata) == ("upload.ready", {"post": 7})


@pytest.mark.parametrize("whose", ["the-one", "dead"])
def test_a_message_that_was_trimmed_while_it_was_pending_is_made_up_for(
    streams: TwoStreams, media: MediaClient, whose: str
) -> None:
    streams.say(A, 1)
    streams.redis.xgroup_create("media:events", GROUP, "0")
    streams.redis.xreadgroup(GROUP, whose, {"media:events": ">"})
    streams.redis.xtrim("media:events", maxlen=0, approximate=False)
    options: dict[str, Any] = {"group": GROUP, "consumer": "the-one", "claim_after": 0.3}
    with listening_app(media, pending=lambda: [A], **options) as app:
        answer(streams, state="unknown")
        app.await_count(1)
        eventually(streams.settled)

    assert (
        len(streams.questions()) <= 2
    )  # once for what was pending, once for what may have come before the answer
    assert (app.heard[0].type, app.heard[0].state) == ("upload.status", "unknown")


def test_answers_to_others_are_no_news_where_nothing_is_settled(
    streams: TwoStreams, media: MediaClient
) -> None:
    streams.say(A, 0, "status", state="unknown", entry="1-1")
    streams.say(A, 4, "status", state="processing", entry="1-2")
    streams.say(B, 3, "status", state="ready", entry="1-4")  # news, once
    streams.say(B, 3, "status", state="ready", entry="1-5")
    streams.say(A, 5, "failed", entry="1-3", error={"code": "invalid_event", "message": "no"})
    streams.say(A, 4)
    with listening_app(media, group=GROUP) as app:
        app.await_count(3)
        eventually(streams.settled)

    assert [(message.type, message.entry) for message in app.heard] == [
        ("upload.ready", None),
        ("upload.failed", "1-3"),  # about an event, not about the upload
        ("upload.ready", None),
    ]


def test_a_cursor_goes_on_where_all_before_it_was_handled(
    streams: TwoStreams, media: MediaClient, tmp_path: Path
) -> None:
    cursor = FileCursor(tmp_path / "media.cursor")
    first = streams.say(A, 1)
    streams.say(B, 2)
    last = streams.say(A, 3)
    with listening_app(media, Failing((B, 2), times=99), cursor=cursor) as before:
        before.await_count(2)
        assert cursor.load() == first  # what failed comes again after a restart, and what is behind it
    with listening_app(media, cursor=cursor) as after:
        after.await_count(2)
        eventually(lambda: cursor.load() == last)

    assert (seqs(before.heard), seqs(after.heard)) == ([(A, 1), (A, 3)], [(B, 2), (A, 3)])


def test_a_cursor_of_a_stream_that_began_anew_starts_at_its_beginning(
    streams: TwoStreams, media: MediaClient
) -> None:
    streams.say(A, 1)
    cursor = MemoryCursor("9999999999999-0")
    with listening_app(media, cursor=cursor) as app:
        app.await_count(1)

    assert seqs(app.heard) == [(A, 1)]


def test_without_group_and_cursor_one_hears_what_comes_from_now_on(
    streams: TwoStreams, media: MediaClient
) -> None:
    streams.say(A, 1)
    with listening_app(media) as app:
        eventually(lambda: streams.redis.info("clients")["blocked_clients"] == 1)
        streams.say(A, 2)
        app.await_count(1)

    assert seqs(app.heard) == [(A, 2)]


@pytest.mark.parametrize("kind", ["group", "cursor"])
def test_a_silence_longer_than_the_clients_timeout_is_no_error(
    streams: TwoStreams, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"group": GROUP} if kind == "group" else {"cursor": MemoryCursor()}
    hasty = redis.Redis.from_url(streams.url, socket_timeout=1.2)
    with hasty, listening_app(MediaClient(hasty), **options) as app:
        with streams.redis.monitor() as monitor:
            reads = (one for one in monitor.listen() if " BLOCK " in one["command"])
            blocks = [int(next(reads)["command"].split(" BLOCK ")[1].split()[0]) for _ in range(4)]
        streams.say(A, 1)
        app.await_count(1)

    assert blocks == [600] * 4
    assert caplog.records == []


def test_options_that_exclude_each_other_are_told(media: MediaClient) -> None:
    with pytest.raises(ValueError, match="one of them"):
        media.listen(print, group=GROUP, cursor=MemoryCursor())
    with pytest.raises(ValueError, match="one of a group"):
        media.listen(print, consumer="me")


def test_a_wrong_password_ends_a_listener_with_an_error(server: RedisServer) -> None:
    stranger = redis.Redis(port=server.port, password="wrong")
    with stranger, pytest.raises(redis.AuthenticationError):
        MediaClient(stranger).listen(print, group=GROUP)


def test_nobody_who_answers_is_told_within_the_time(streams: TwoStreams, media: MediaClient) -> None:
    with pytest.raises(MediaTimeout, match="Does one run that reads media:uploads"):
        media.status(A, timeout=0.2)

    assert list(streams.questions().values()) == [A]


async def test_an_asynchronous_listener_awaits_what_it_is_given(
    streams: TwoStreams, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "media_worker_client")
    heard: list[Message] = []
    calls = 0
    saved = asyncio.Event()

    class AwaitedCursor(MemoryCursor):
        async def load(self) -> str | None:  # type: ignore[override]
            return self.last_id

        async def save(self, last_id: str) -> None:  # type: ignore[override]
            self.last_id = last_id
            if last_id == last:
                saved.set()

    async def handle(message: Message) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("the database is away")
        heard.append(message)

    async def pending() -> list[str]:
        return [B]

    first, last = streams.say(A, 1), streams.say(B, 2)
    cursor = AwaitedCursor()
    stop = asyncio.Event()
    async with AsyncMediaClient(streams.url) as media:
        listening = asyncio.create_task(media.listen(handle, cursor=cursor, stop=stop, pending=pending))
        async with asyncio.timeout(20):
            await saved.wait()
        stop.set()
        await listening

    assert seqs(heard) == [(B, 2), (A, 1)]
    assert first < last
    assert list(streams.questions().values()) == [B]


async def test_an_asynchronous_listener_is_ended_by_cancelling_it(streams: TwoStreams) -> None:
    heard = asyncio.Event()

    async def handle(message: Message) -> None:
        heard.set()

    client = redis.asyncio.Redis.from_url(streams.url)
    media = AsyncMediaClient(client)
    listening = asyncio.create_task(media.listen(handle, group=GROUP))
    streams.say(A, 1)
    async with asyncio.timeout(20):
        await heard.wait()
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
    await client.aclose()
