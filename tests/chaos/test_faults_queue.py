"""A queue that forgets, repeats, cuts transactions or holds rubbish: the catalog knows what is to be done."""

import json
import signal
import time
from typing import Any

import pytest

from tests.chaos.conftest import ProxiedPlace
from tests.chaos.place import FaultPlace
from tests.support.catalog_rows import rows_of
from tests.support.clients import WITH_SERVICES
from tests.support.workplace import eventually

PERIOD_S = 1.0  # of the reconciler
WORK_S = 15.0  # that a hundred small pictures may take on a busy machine


@pytest.mark.fault(14)
@WITH_SERVICES
def test_thirty_queued_uploads_outlive_a_redis_that_lost_everything(place: FaultPlace) -> None:
    sources = place.upload(*range(30))
    fault = {"crash": ("take", "after", 1), "armed": True}
    victim = place.start_worker(fault=fault, ready=False, MEDIA_BATCH_SIZE="200")
    victim.wait()
    assert place.states() == dict.fromkeys(sources, "queued")
    place.redis.flushdb()
    successor = place.start_worker()

    place.await_state("ready", *sources, within=2 * PERIOD_S + WORK_S)

    assert successor.stop() == 0
    place.check()


def test_rows_are_queued_again_within_two_periods_under_a_living_worker(place: FaultPlace) -> None:
    place.start_worker()
    worker = place.workers[0]
    worker.signal(signal.SIGSTOP)
    sources = place.upload(*range(20))
    worker.signal(signal.SIGCONT)
    eventually(lambda: len(place.states()) == 20)
    place.redis.flushdb()

    place.await_state("ready", *sources, within=2 * PERIOD_S + WORK_S)

    place.check()


@pytest.mark.fault(14)
def test_events_that_nobody_had_taken_come_back_by_adoption_after_the_grace(
    place: FaultPlace,
) -> None:
    sources = place.upload(1, 2, 3)
    place.redis.flushdb()
    time.sleep(1.1)  # the grace
    place.start_worker(MEDIA_GRACE="1")

    place.await_state("ready", *sources)

    place.check()


@pytest.mark.fault(15)
@WITH_SERVICES
def test_a_storm_of_cut_connections_loses_nothing(proxied: ProxiedPlace) -> None:
    worker = proxied.place.start_worker()
    sources = proxied.place.upload(*range(60))
    until = time.monotonic() + 2
    while time.monotonic() < until:
        proxied.proxy.cut()
        time.sleep(0.02)

    proxied.place.await_state("ready", *sources)

    proxied.place.await_rest()
    assert worker.stop() == 0
    proxied.place.check()
    assert rows_of(proxied.place.catalog, "SELECT DISTINCT attempts FROM uploads") == [{"attempts": 0}]


@pytest.mark.fault(16)
@pytest.mark.parametrize("mode", ["cut_on_multi", "drop_exec_reply"])
@pytest.mark.rotating(1)
def test_transactions_that_are_cut_or_whose_reply_is_lost_make_nothing_twice(
    proxied: ProxiedPlace, mode: str
) -> None:
    worker = proxied.place.start_worker()
    proxied.proxy.mode = mode  # type: ignore[assignment]
    sources = proxied.place.upload(*range(10))
    eventually(lambda: proxied.proxy.struck >= 5)
    proxied.proxy.mode = "pass"

    proxied.place.await_state("ready", *sources)

    proxied.place.await_rest()
    assert worker.stop() == 0
    proxied.place.check()
    made = rows_of(proxied.place.catalog, "SELECT count(*) AS number FROM variants")
    assert made == [{"number": 30}]


@pytest.mark.fault(22, 25)
def test_jobs_whose_payload_has_gone_are_requeued(place: FaultPlace) -> None:
    place.upload(0)
    victim = place.start_worker(fault={"crash": ("acknowledge", "after", 1), "armed": True}, ready=False)
    victim.wait()
    for key in place.redis.scan_iter("arq:job:*"):
        place.redis.delete(key)
    place.start_worker()

    place.await_state("ready", "uploads/0.jpg")

    place.await_rest()
    place.check()


@pytest.mark.fault(24)
@pytest.mark.parametrize("with_lock", [True, False])
@pytest.mark.rotating(1)
def test_two_hundred_dead_ids_at_the_head_of_the_queue_hold_nobody_up(
    place: FaultPlace, with_lock: bool
) -> None:
    for n in range(200):
        place.redis.zadd("media:uploads:jobs", {f"dead:{n}": 1})
        if with_lock:
            place.redis.psetex(f"arq:in-progress:dead:{n}", 60_000, b"somebody")
    place.start_worker()

    took = place.await_state("ready", *place.upload(1))

    assert took < 1 + WORK_S
    place.check(settled=False)


@pytest.mark.fault(19)
def test_a_redis_without_file_that_evicts_or_is_a_replica_is_warned_of_by_name(
    proxied: ProxiedPlace,
) -> None:
    proxied.server.client.config_set("appendonly", "no")
    proxied.server.client.config_set("maxmemory-policy", "allkeys-lru")
    worker = proxied.place.start_worker()
    worker.stop()
    proxied.server.client.replicaof("127.0.0.1", "1")
    replica = proxied.place.start_worker(ready=False)
    refused = replica.await_log("redis_refuses")
    replica.stop()

    warned = {line["event"]: line["found"] for line in worker.log if "found" in line}

    assert warned == {"redis_durability": "no append-only file", "redis_eviction": "allkeys-lru"}
    assert "replica" in refused["reason"]


_GOOD_ID = b"%032x"
_BAD_IDS = [b"\xff\xfe", b"x" * 10_000, b"../../x", b"new\nline", b"", b"UPPER"]
_BAD_JOBS: list[Any] = [
    {"t": None, "f": "process_batch", "a": [[]], "k": {}, "et": None},
    {"t": "1", "f": "process_batch", "a": [[]], "k": {}, "et": 1},
    {"t": 1, "f": ["process_batch"], "a": [[]], "k": {}, "et": 1},
    {"t": 1, "f": "process_batch", "a": {}, "k": [], "et": 1},
    {"t": 1, "f": "process_batch", "a": [[]], "k": {}, "et": "2026-11-21T10:00:00Z"},
    [1, 2],
]


@pytest.mark.fault(20, 21)
def test_jobs_that_arq_cannot_read_end_no_worker_and_hold_up_no_queue(place: FaultPlace) -> None:
    jobs = "media:uploads:jobs"
    for job_id in _BAD_IDS:
        place.redis.zadd(jobs, {job_id: 1})
    for number, job in enumerate(_BAD_JOBS):
        place.redis.zadd(jobs, {_GOOD_ID % number: 1})
        place.redis.set(b"arq:job:" + _GOOD_ID % number, json.dumps(job))
    for number, score in enumerate(("-inf", "+inf")):
        place.redis.zadd(jobs, {_GOOD_ID % (100 + number): score})
    for number, payload in enumerate((b"\x80\x04pickle", b"[" * 5000, b"x" * 500_000)):
        place.redis.zadd(jobs, {_GOOD_ID % (200 + number): 1})
        place.redis.set(b"arq:job:" + _GOOD_ID % (200 + number), payload)
    worker = place.start_worker()

    place.await_state("ready", *place.upload(1))

    place.await_rest()
    assert worker.logged("corrupt_jobs_removed")
    assert worker.stop() == 0
    place.check()


@pytest.mark.fault(21)
def test_a_queue_of_jobs_of_another_type_heals(place: FaultPlace) -> None:
    place.redis.set("media:uploads:jobs", "not a queue")
    worker = place.start_worker()

    place.await_state("ready", *place.upload(1))

    assert worker.stop() == 0
    place.check()
