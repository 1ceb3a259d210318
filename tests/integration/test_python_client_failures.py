"""What fails around a listener of the Python client: Redis, the app's own functions, other consumers."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from media_worker_client import (
    AsyncMediaClient,
    AsyncOutbox,
    FileCursor,
    MediaClient,
    MemoryCursor,
    MemorySeqs,
    Message,
    Outbox,
)
from media_worker_client.client import run
from media_worker_client.connections import own_name
from media_worker_client.listening import listen
from media_worker_client.reading import Listening
from scripts.redis_server import RedisServer
from tests.support.listening_app import Failing, listening_app
from tests.support.redis_urls import as_user
from tests.support.tcp_proxy import Strike, TcpProxy
from tests.support.two_streams import GROUP, A, B, TwoStreams, seqs
from tests.support.workplace import eventually


@pytest.fixture
def streams(server: RedisServer) -> Iterator[TwoStreams]:
    streams = TwoStreams(server.url)
    yield streams
    streams.redis.config_set("maxmemory", 0)
    streams.redis.close()


@pytest.fixture
def media(streams: TwoStreams) -> Iterator[MediaClient]:
    with MediaClient(streams.url) as media:
        yield media


class Held:
    """A handler that waits at the first message until it is let go."""

    def __init__(self) -> None:
        self.is_there, self.may_go = threading.Event(), threading.Event()

    def __call__(self, message: Message) -> None:
        self.is_there.set()
        assert self.may_go.wait(20)


# -- Redis


def test_a_listener_waits_for_a_redis_that_is_full(
    streams: TwoStreams, media: MediaClient, caplog: pytest.LogCaptureFixture
) -> None:
    streams.say(A, 1)
    streams.redis.config_set("maxmemory", 1)
    with listening_app(media, group=GROUP) as app:
        eventually(lambda: "the listener tries again" in caplog.text)
        streams.redis.config_set("maxmemory", 0)
        app.await_count(1)


def lost_on_the_way(streams: TwoStreams, seq: int) -> None:
    """Say something that Redis has given to the one consumer, on a connection that broke meanwhile."""
    streams.say(A, seq)
    [consumer] = streams.redis.xinfo_consumers("media:events", GROUP)
    streams.redis.xreadgroup(GROUP, consumer["name"], {"media:events": ">"})


def test_what_was_lost_on_the_way_outlives_a_listener_that_ends(
    streams: TwoStreams, media: MediaClient
) -> None:
    handler = Held()
    streams.say(A, 1)
    with listening_app(media, handler, group=GROUP) as before:
        assert handler.is_there.wait(20)
        lost_on_the_way(streams, 2)
        before.end()
        handler.may_go.set()
    with listening_app(media, group=GROUP, claim_after=0.3) as after:
        after.await_count(1)

    assert (seqs(before.heard), seqs(after.heard)) == ([(A, 1)], [(A, 2)])


def test_what_was_lost_on_the_way_is_read_again_also_without_the_right_to_claim(
    streams: TwoStreams, server: RedisServer
) -> None:
    handler = Held()
    streams.say(A, 1)
    rights = ("~media:events", "+xreadgroup", "+xack", "+xgroup")
    streams.redis.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">secret", *rights)
    url = f"redis://poor:secret@127.0.0.1:{server.port}/0"
    with MediaClient(url) as media, listening_app(media, handler, group=GROUP, claim_after=0.9) as app:
        assert handler.is_there.wait(20)
        lost_on_the_way(streams, 2)
        handler.may_go.set()
        app.await_count(2)

    assert seqs(app.heard) == [(A, 1), (A, 2)]


def test_consumers_that_have_ended_long_ago_are_forgotten_and_others_are_not(streams: TwoStreams) -> None:
    streams.say(A, 1)
    streams.redis.xgroup_create("media:events", GROUP, "0")
    streams.redis.xreadgroup(GROUP, "has left something", {"media:events": ">"})
    streams.redis.xgroup_createconsumer("media:events", GROUP, "is gone")
    names = []
    for forget_after_s in (3600.0, -1.0):
        asked = listening(streams, print, forget_after_s=forget_after_s)
        run(listen(asked), streams.redis)
        names.append({one["name"] for one in streams.redis.xinfo_consumers("media:events", GROUP)})

    assert names == [{b"has left something", b"is gone"}, {b"has left something"}]


def test_a_listener_that_may_make_its_group_alone_leaves_old_consumers_there(streams: TwoStreams) -> None:
    streams.say(A, 1)
    streams.redis.xgroup_create("media:events", GROUP, "0")
    streams.redis.xgroup_createconsumer("media:events", GROUP, "is gone")
    rights = ("~media:events", "+xreadgroup", "+xack", "+xgroup|create", "+xinfo", "+xautoclaim")
    streams.redis.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">secret", *rights)
    heard: list[Message] = []
    asked = listening(streams, heard.append, forget_after_s=-1.0)
    with redis.Redis.from_url(as_user(streams.url, "poor", "secret")) as poor:
        run(listen(asked), poor)

    assert seqs(heard) == [(A, 1)]
    names = {one["name"] for one in streams.redis.xinfo_consumers("media:events", GROUP)}
    assert names == {b"is gone", asked.consumer.encode()}


def listening(streams: TwoStreams, handler: Any, *, turns: int = 1, **more: Any) -> Listening:
    """A listener of the group that reads so many times."""
    left = iter(range(2 * turns))
    return Listening(
        handler=handler,
        events="media:events",
        stream="media:uploads",
        stopped=lambda: next(left, None) is None,
        seqs=MemorySeqs(),
        block_s=0.01,
        group=GROUP,
        consumer=own_name(),
        is_own_name=True,
        **more,
    )


def test_messages_whose_turn_comes_late_are_kept_from_other_consumers(streams: TwoStreams) -> None:
    now = 0.0
    calls = 0

    def handle(message: Message) -> None:
        nonlocal now, calls
        calls += 1
        now += 30
        if calls == 1:
            raise RuntimeError("the database is away")

    def clock() -> float:
        nonlocal now
        now += 0.2
        return now

    for seq in range(1, 5):
        streams.say(A, seq)
    streams.redis.config_resetstat()
    run(listen(listening(streams, handle, turns=9, clock=clock)), streams.redis)

    assert calls == 5
    assert streams.redis.info("commandstats")["cmdstat_xclaim"]["calls"] >= 3


# -- what is asked for where messages were lost


class CutsOneQuestion(TcpProxy):
    """Cuts the connection on which the first question is sent."""

    is_cut = False

    def strike(self, chunk: bytes) -> Strike:
        if b"XADD" in chunk and not self.is_cut:
            self.is_cut = True
            return Strike.CUT
        return Strike.PASS


def test_a_question_that_did_not_come_through_is_asked_again(
    streams: TwoStreams, server: RedisServer
) -> None:
    proxy = CutsOneQuestion(server.port)
    url = streams.url.replace(f":{server.port}", f":{proxy.port}")
    with MediaClient(url) as media, listening_app(media, group=GROUP, pending=lambda: [A, B]):
        eventually(lambda: set(streams.questions().values()) == {A, B})
    proxy.close()

    assert proxy.is_cut


def test_a_full_redis_that_takes_no_question_holds_up_no_message(
    streams: TwoStreams, media: MediaClient
) -> None:
    handler = Held()
    streams.say(A, 1)
    asked: list[str] = []
    with listening_app(media, handler, group=GROUP, pending=lambda: asked) as app:
        assert handler.is_there.wait(20)
        streams.redis.xtrim("media:events", maxlen=0, approximate=False)
        streams.say(A, 2)
        streams.redis.config_set("maxmemory", 1)
        asked.append(B)
        handler.may_go.set()
        app.await_count(2)
        assert streams.questions() == {}
        streams.redis.config_set("maxmemory", 0)
        eventually(lambda: list(streams.questions().values()) == [B])


def test_what_pending_names_wrongly_holds_up_nothing_else(
    streams: TwoStreams, media: MediaClient, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: list[Any] = ["cat", None, 7]
    streams.say(A, 1)
    with listening_app(media, group=GROUP, pending=lambda: [*wrong, B]) as app:
        app.await_count(1)

    assert list(streams.questions().values()) == [B]
    assert all(f"{one!r}" in caplog.text for one in wrong)


def test_a_message_that_was_trimmed_while_its_handler_fails_has_nothing_asked_again_and_again(
    streams: TwoStreams, media: MediaClient
) -> None:
    handler = Failing((A, 1), times=99)
    streams.say(A, 1)
    options: dict[str, Any] = {"group": GROUP, "claim_after": 0.3, "pending": lambda: [B]}
    with listening_app(media, handler, **options):
        eventually(lambda: bool(handler.tries))
        streams.redis.xtrim("media:events", maxlen=0, approximate=False)
        with streams.redis.monitor() as monitor:
            rereads = (one for one in monitor.listen() if one["command"].endswith("STREAMS media:events 0"))
            for _ in range(4):
                next(rereads)

    assert list(streams.questions().values()) == [B]  # as the group was new


def test_a_pending_that_fails_is_called_again(streams: TwoStreams, media: MediaClient) -> None:
    calls = 0

    def pending() -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionRefusedError("the database is away")
        return [B]

    streams.say(A, 1)
    with listening_app(media, group=GROUP, pending=pending) as app:
        app.await_count(1)
        eventually(lambda: list(streams.questions().values()) == [B])


def test_any_consumer_of_a_group_tells_that_an_upload_is_unknown(
    streams: TwoStreams, media: MediaClient
) -> None:
    # The answer to a question of one consumer is read by another, or by the same one after a restart.
    for upload in (A, B):
        streams.say(upload, 0, "status", state="unknown", entry="1-1")
    streams.say(A, 1)
    with listening_app(media, group=GROUP, pending=lambda: [B]) as app:
        app.await_count(2)

    assert [(message.id, message.state) for message in app.heard] == [(B, "unknown"), (A, "ready")]


# -- the app's own functions


class BadCursor(MemoryCursor):
    """A cursor whose disk is full at first."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = True

    def save(self, last_id: str) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().save(last_id)


def test_a_cursor_that_cannot_be_kept_is_told_and_kept_as_soon_as_that_goes(
    streams: TwoStreams, media: MediaClient, caplog: pytest.LogCaptureFixture
) -> None:
    cursor = BadCursor()
    streams.say(A, 1)
    last = streams.say(B, 2)
    with listening_app(media, cursor=cursor) as app:
        app.await_count(2)
        cursor.is_full = False
        eventually(lambda: cursor.last_id == last)

    assert seqs(app.heard) == [(A, 1), (B, 2)]
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "The cursor could not be kept; it is tried again"
    ]


@pytest.mark.parametrize("content", [b"abc", b"\xff\xfe", b"12-", b"1-2-3", b"-5", b"$"])
def test_a_cursor_that_is_none_ends_a_listener_with_its_name(
    media: MediaClient, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "media.cursor"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"media\.cursor.* is no ID of a stream"):
        media.listen(print, cursor=FileCursor(path))


def test_a_cursor_that_cannot_be_read_ends_a_listener(media: MediaClient, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        media.listen(print, cursor=FileCursor(tmp_path))


class BadSeqs(MemorySeqs):
    """A store whose database is away once at each verb."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = {"get", "set"}

    def get(self, id: str) -> int | None:
        self._fail("get")
        return super().get(id)

    def set(self, id: str, seq: int) -> None:
        self._fail("set")
        super().set(id, seq)

    def _fail(self, verb: str) -> None:
        if verb in self.failing:
            self.failing.remove(verb)
            raise ConnectionRefusedError(f"no database for {verb}")


def test_a_store_of_seqs_that_fails_has_its_message_tried_again(
    streams: TwoStreams, media: MediaClient
) -> None:
    streams.say(A, 1)
    with listening_app(media, group=GROUP, seqs=BadSeqs()) as app:
        app.await_count(2)
        eventually(streams.settled)

    assert seqs(app.heard) == [(A, 1), (A, 1)]  # at least once: `set` has failed behind the first


# -- threads and asyncio mixed up


async def awaited(message: Message) -> None:
    """A handler for asyncio."""


@pytest.mark.parametrize("handler", [awaited, lambda message: awaited(message)])
def test_a_handler_for_asyncio_is_no_handler_for_threads(
    streams: TwoStreams, media: MediaClient, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "media_worker_client")
    streams.say(A, 1)
    with pytest.raises(TypeError, match="AsyncMediaClient"):
        media.listen(handler, group=GROUP)

    groups = streams.redis.xinfo_groups("media:events")
    assert sum(group["pending"] for group in groups) == len(groups)  # nothing counts as handled


async def test_a_redis_for_asyncio_is_none_for_threads_and_the_other_way_round(streams: TwoStreams) -> None:
    other: Any = redis.asyncio.Redis.from_url(streams.url)
    usual: Any = streams.redis

    with pytest.raises(TypeError, match="AsyncMediaClient"):
        MediaClient(other)
    with pytest.raises(TypeError, match=r"redis\.asyncio"):
        AsyncMediaClient(usual)
    await other.connection_pool.disconnect()


async def test_an_outbox_has_a_client_of_its_own_kind(streams: TwoStreams) -> None:
    async with AsyncMediaClient(streams.url) as media:
        with pytest.raises(TypeError, match="AsyncOutbox"):
            Outbox(media, lambda: [{"source": "uploads/a.jpg"}]).flush()
        assert await AsyncOutbox(media, lambda: [{"source": "uploads/a.jpg"}]).flush() == 1

    assert streams.redis.xlen("media:uploads") == 1
