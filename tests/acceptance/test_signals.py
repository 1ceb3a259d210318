"""SIGTERM, SIGKILL and SIGSTOP in the middle of work: everything becomes ready, and no attempt is counted."""

import signal
import time
from typing import Any

import pytest

from tests.support import pictures, processes
from tests.support.catalog_rows import rows_of
from tests.support.checker import Findings
from tests.support.job_queues import SHARED
from tests.support.workplace import WorkerProcess, Workplace, eventually

_PROCESSING = "SELECT 1 FROM uploads WHERE state = 'processing'"
SLOW = pytest.mark.campaign
MANY = 50


def _in_the_middle_of_many(place: Workplace, by: str, **settings: str) -> tuple[WorkerProcess, list[str]]:
    """A worker with some of many uploads ready and others in its hands."""
    sources = [place.put(f"uploads/{n}.jpg", pictures.medium(n % 5)) for n in range(MANY)]
    worker = place.start(by, MEDIA_CPUS="2")
    place.send_all({"source": source} for source in sources)
    place.listen(lambda got: len(got) >= 10)
    return worker, sources


def _all_are_ready_at_the_first_attempt(place: Workplace, count: int = MANY) -> Findings:
    found = place.check()
    assert found.states == {"ready": count}
    assert {upload["attempts"] for upload in found.uploads.values()} == {0}
    return found


@pytest.mark.fault(6)
@pytest.mark.parametrize("by", [pytest.param("arq", marks=SLOW), "media"])
@pytest.mark.rotating(1)
def test_sigterm_in_the_middle_of_a_batch_counts_no_attempt_and_leaves_nothing(
    workplace: Workplace, by: str
) -> None:
    worker, sources = _in_the_middle_of_many(workplace, by)
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 10
    half = workplace.check(settled=False)
    assert half.states["processing"] == 0
    assert 0 < half.states["ready"] < MANY

    workplace.start(by)
    workplace.await_end_of(*sources)

    found = _all_are_ready_at_the_first_attempt(workplace)
    assert {upload["crash_count"] for upload in found.uploads.values()} == {0}
    assert [worker.stop() for worker in workplace.workers[1:]] == [0]
    workplace.check()


@pytest.mark.fault(9)
def test_a_second_sigterm_hands_back_what_is_in_hand_and_ends_at_once(workplace: Workplace) -> None:
    hanging = workplace.put("uploads/hang.jpg", pictures.small() + b"--hang--")
    good = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(5)]
    worker = workplace.start("stub")
    workplace.send_all({"source": source} for source in good)
    workplace.await_end_of(*good)
    workplace.send({"source": hanging})  # it would keep the only decoder from them
    eventually(lambda: bool(rows_of(workplace.catalog, _PROCESSING)))
    worker.signal(signal.SIGTERM)
    time.sleep(0.2)  # two signals at the same moment are one
    began = time.monotonic()

    worker.signal(signal.SIGTERM)

    assert worker.wait() == 0
    assert time.monotonic() - began < 8
    back = workplace.check(settled=False).uploads[hanging]
    assert (back["state"], back["attempts"], back["holder"]) == ("queued", 0, None)


def test_signals_that_come_while_it_ends_change_nothing(workplace: Workplace) -> None:
    worker = workplace.start("media")

    while worker.process.poll() is None:
        worker.signal(signal.SIGTERM)
        time.sleep(0.005)

    assert worker.wait() == 0
    assert worker.logged("worker_stopped")


@pytest.mark.fault(6)
def test_sigterm_ends_within_the_shutdown_wait_though_a_picture_hangs(workplace: Workplace) -> None:
    source = workplace.put("uploads/hang.jpg", pictures.small() + b"--hang--")
    worker = workplace.start("stub", MEDIA_SHUTDOWN_WAIT="1")
    workplace.send({"source": source})
    eventually(lambda: bool(rows_of(workplace.catalog, _PROCESSING)))
    began = time.monotonic()

    assert worker.stop() == 0

    assert time.monotonic() - began < 10
    found = workplace.check(settled=False)
    assert found.uploads[source]["state"] == "queued"
    assert found.uploads[source]["attempts"] == 0
    assert workplace.redis.keys("media:uploads:jobs*") == [SHARED.encode()]  # for whoever comes


@pytest.mark.fault(6)
def test_a_worker_that_is_to_stop_leaves_at_once_what_it_has_not_begun(workplace: Workplace) -> None:
    worker = workplace.start("stub", MEDIA_CPUS="1")
    workplace.send({"source": workplace.put("uploads/hang.jpg", pictures.small() + b"--hang--")})
    eventually(lambda: bool(rows_of(workplace.catalog, _PROCESSING)))
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(40)]
    workplace.send_all({"source": source} for source in sources)
    eventually(lambda: workplace.redis.xlen("media:uploads") == 0)

    worker.signal(signal.SIGTERM)
    eventually(lambda: workplace.redis.exists(SHARED) == 1)

    assert worker.process.poll() is None
    redis: Any = workplace.redis
    [heartbeat] = redis.keys("media:uploads:health:*")
    assert b"stopping" in redis.get(heartbeat)
    worker.kill()
    next_one = workplace.start("stub")
    eventually(lambda: workplace.redis.exists(SHARED) == 0)
    next_one.kill()
    kept = {key for key in redis.keys("*") if redis.ttl(key) == -1}
    assert kept <= {b"media:uploads", b"media:uploads:catalog", b"media:events", b"media:limits"}


@pytest.mark.parametrize("by", ["arq", pytest.param("media", marks=SLOW)])
@pytest.mark.rotating(1)
def test_sigkill_in_the_middle_of_a_batch_costs_the_lease_and_no_upload_an_attempt(
    workplace: Workplace, by: str
) -> None:
    worker, sources = _in_the_middle_of_many(workplace, by)
    decoders = worker.decoders()
    worker.kill()

    workplace.start(by)
    began = time.monotonic()
    workplace.await_end_of(*sources)

    assert time.monotonic() - began < 1 + 10
    assert decoders
    assert not any(processes.lives(pid) for pid in decoders)
    _all_are_ready_at_the_first_attempt(workplace)
    assert workplace.workers[1].stop() == 0
    workplace.check()


@pytest.mark.fault(7)
@pytest.mark.campaign
def test_twenty_deploys_in_a_row_lose_nothing_and_count_no_attempt(workplace: Workplace) -> None:
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.medium(n % 5)) for n in range(40)]
    workplace.send_all({"source": source} for source in sources)
    for _ in range(20):
        workplace.start("arq").stop()

    workplace.start("arq")
    workplace.await_end_of(*sources)

    _all_are_ready_at_the_first_attempt(workplace, 40)


@pytest.mark.fault(10)
def test_a_worker_frozen_longer_than_its_lease_is_fenced(workplace: Workplace) -> None:
    frozen, sources = _in_the_middle_of_many(workplace, "arq")
    workplace.freeze(frozen)
    workplace.start("arq")
    workplace.await_end_of(*sources)

    frozen.signal(signal.SIGCONT)
    later = workplace.put("uploads/later.jpg", pictures.small())
    workplace.send({"source": later})
    workplace.await_end_of(later)

    _all_are_ready_at_the_first_attempt(workplace, MANY + 1)
    assert [worker.stop() for worker in workplace.workers] == [0, 0]
    found = _all_are_ready_at_the_first_attempt(workplace, MANY + 1)
    assert found.unreferenced == set()
