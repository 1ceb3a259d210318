"""What gets lost on the way is found: jobs, all of Redis, messages, and Redis itself."""

import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer, temporary_redis
from tests.support import pictures, processes
from tests.support.clients import WITH_SERVICES
from tests.support.job_queues import job_queues
from tests.support.redis_urls import by_port
from tests.support.workplace import Workplace, eventually

QUEUED = "SELECT id, job_id FROM uploads WHERE state = 'queued'"


def _queue_without_a_worker(place: Workplace, count: int) -> list[str]:
    """Uploads that are rows and jobs; the worker that made them so could not finish one."""
    sources = [place.put(f"uploads/{n}.jpg", pictures.small(n) + b"--stop--") for n in range(count)]
    worker = place.start("stub", MEDIA_IMAGE_TIMEOUT="120")  # no picture may fail before all are queued
    place.send_all({"source": source} for source in sources)
    eventually(lambda: place.redis.xlen("media:uploads") == 0)
    worker.kill()
    return sources


def test_jobs_that_vanish_are_requeued(workplace: Workplace) -> None:
    sources = _queue_without_a_worker(workplace, 20)
    for key in workplace.redis.scan_iter("arq:job:*"):
        workplace.redis.delete(key)
    workplace.redis.delete(*job_queues(workplace.redis))
    workplace.start("arq")

    workplace.await_end_of(*sources, within=60)

    assert workplace.check().states == {"ready": 20}


@pytest.mark.parametrize("lost", ["payloads", "places"])
@pytest.mark.rotating(1)
def test_half_a_job_is_requeued(workplace: Workplace, lost: str) -> None:
    sources = _queue_without_a_worker(workplace, 10)
    keys = list(workplace.redis.scan_iter("arq:job:*")) if lost == "payloads" else job_queues(workplace.redis)
    workplace.redis.delete(*keys)
    workplace.start("media")

    workplace.await_end_of(*sources)

    workplace.redis.delete(*keys) if lost == "places" else None
    assert workplace.check(settled=False).states == {"ready": 10}


@pytest.mark.campaign
def test_a_redis_that_lost_a_hundred_queued_uploads_gets_them_back_from_the_catalog(
    workplace: Workplace,
) -> None:
    sources = _queue_without_a_worker(workplace, 100)
    workplace.redis.flushdb()
    workplace.start("arq")

    workplace.await_end_of(*sources)

    assert workplace.check().states == {"ready": 100}


def test_messages_that_were_never_sent_are_sent_later_in_order(workplace: Workplace) -> None:
    worker = workplace.start("arq")
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(10)]
    workplace.send_all({"source": source} for source in sources)
    workplace.await_end_of(*sources)
    worker.stop()
    _forget_that_they_were_sent(workplace)
    workplace.redis.delete("media:events")
    workplace.messages.clear()
    workplace._last = "0"

    workplace.start("arq")
    answers = workplace.await_end_of(*sources)

    assert len(answers) == 10
    seqs = [answer["seq"] for answer in workplace.messages]
    assert seqs == sorted(seqs)
    workplace.check()


def _forget_that_they_were_sent(place: Workplace) -> None:
    with sqlite3.connect(place.catalog) as connection:
        connection.execute("UPDATE outbox SET sent_ms = NULL, made_ms = made_ms - 10000")
    connection.close()


def test_postponed_jobs_hold_up_no_other_event(workplace: Workplace) -> None:
    workplace.start("arq")
    for number in range(40):
        workplace.send({"source": f"uploads/missing-{number}.jpg"})
        time.sleep(0.01)  # each in a job of its own
    source = workplace.put("uploads/there.jpg", pictures.small())
    workplace.send({"source": source})

    first = workplace.listen(len)[0]

    assert first["source"] == source  # while the others are looked for, for ten seconds


@pytest.fixture
def own(migrated: Path, tmp_path: Path) -> Iterator[tuple[Workplace, "InterruptedRedis"]]:
    """A workplace whose Redis stands behind a relay that can refuse, hang or forget."""
    with temporary_redis() as server:
        relay = InterruptedRedis(server)
        place = Workplace(tmp_path, by_port(server.url, relay.port), migrated)
        yield place, relay
        place.close()
        relay.close()


class InterruptedRedis:
    """A TCP relay before a Redis, which can cut everything, or go on accepting and never answer."""

    def __init__(self, server: RedisServer) -> None:
        self._target = ("127.0.0.1", server.port)
        self._answers = True
        self.asked = threading.Event()  # without an answer
        self._pairs: list[socket.socket] = []
        self._listen(0)

    def _listen(self, port: int) -> None:
        self._door = socket.create_server(("127.0.0.1", port))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._door,), daemon=True).start()

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._pairs += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._answers:
                    target.sendall(data)
                else:
                    self.asked.set()
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def cut(self) -> None:
        """Redis is away: every connection is cut, new ones are refused."""
        for end in (self._door, *self._pairs):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._pairs.clear()

    def mend(self) -> None:
        """Redis is back."""
        self._answers = True
        self._listen(self.port)

    def fall_silent(self) -> None:
        """Redis accepts and never answers."""
        self._answers = False

    def close(self) -> None:
        self.cut()


def test_media_worker_rides_out_a_redis_that_was_away(own: tuple[Workplace, InterruptedRedis]) -> None:
    place, relay = own
    worker = place.start("media")
    sources = [place.put(f"uploads/{n}.jpg", pictures.medium(n % 5)) for n in range(60)]
    place.send_all({"source": source} for source in sources)
    place.listen(lambda got: len(got) >= 5)
    relay.cut()
    worker.await_log("redis_unavailable")
    relay.mend()

    place.await_end_of(*sources, within=60)

    assert worker.process.poll() is None
    found = place.check()
    assert found.states == {"ready": 60}
    assert {upload["attempts"] for upload in found.uploads.values()} == {0}


def test_media_worker_ends_while_redis_is_away(own: tuple[Workplace, InterruptedRedis]) -> None:
    place, relay = own
    worker = place.start("media")
    relay.cut()
    worker.await_log("redis_unavailable")

    assert worker.stop() == 0


def test_media_worker_starts_before_its_redis(own: tuple[Workplace, InterruptedRedis]) -> None:
    place, relay = own
    relay.cut()
    worker = place.start("media", ready=False)
    worker.await_log("redis_unavailable")
    relay.mend()
    source = place.put("uploads/a.jpg", pictures.small())
    place.send({"source": source})

    place.await_end_of(source)


def test_media_worker_does_not_hang_on_a_redis_that_never_answers(
    own: tuple[Workplace, InterruptedRedis],
) -> None:
    place, relay = own
    worker = place.start("media")
    relay.fall_silent()
    assert relay.asked.wait(10)

    assert worker.stop() == 0


@WITH_SERVICES
def test_arq_ends_with_an_error_and_leaves_nothing_when_redis_is_away(
    own: tuple[Workplace, InterruptedRedis],
) -> None:
    place, relay = own
    worker = place.start("arq")
    decoders = worker.decoders()
    sources = [place.put(f"uploads/{n}.jpg", pictures.medium(n % 5)) for n in range(60)]
    place.send_all({"source": source} for source in sources)
    place.listen(lambda got: len(got) >= 5)
    relay.cut()

    assert worker.wait() != 0

    eventually(lambda: not any(processes.lives(pid) for pid in decoders), within=5)  # the kernel ends them
    relay.mend()
    place.start("arq")
    place.await_end_of(*sources)
    assert place.check().states == {"ready": 60}
