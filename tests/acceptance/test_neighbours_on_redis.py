"""What another client writes under our keys ends no worker, and holds no upload up for long."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.workplace import Workplace, database_on, eventually

pytestmark = WITH_SERVICES

SOON_S = 10.0  # on a busy machine
STREAM = "media:uploads"
NOW = 1_790_000_000_000


@pytest.fixture(scope="module")
def crowded(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace with one `media worker`, whose Redis others write to."""
    place = Workplace(tmp_path_factory.mktemp("crowded"), database_on(redis_server.url), migrated)
    place.start()
    yield place
    place.close()


def queue_of(place: Workplace) -> str:
    """The queue of jobs of the worker that lives; where there is none, the one that is nobody's."""
    living: Any = place.redis.keys(f"{STREAM}:worker:*")
    return living[0].decode().replace(":worker:", ":jobs:", 1) if living else f"{STREAM}:jobs"


def payload(**changes: object) -> str:
    job = {"t": 1, "f": "process_batch", "a": [[str(uuid4())]], "k": {}, "et": NOW}
    return json.dumps(job | changes)


def job(place: Workplace, *, body: str | None = None, name: Any = None, score: Any = 1) -> Any:
    """Put a job into the worker's queue."""
    name = name or uuid4().hex
    pipe = place.redis.pipeline()
    if body is not None:
        pipe.set(f"arq:job:{name}", body)
    pipe.zadd(queue_of(place), {name: score})
    pipe.execute()
    return name


def counted_in_words(place: Workplace) -> None:
    name = uuid4().hex
    place.redis.set(f"arq:retry:{name}", "often")
    job(place, body=payload(), name=name)


def locked(place: Workplace, count: int = 1, **options: Any) -> None:
    names = [uuid4().hex for _ in range(count)]
    pipe = place.redis.pipeline()
    for name in names:
        pipe.set(f"arq:in-progress:{name}", "x", **options)
    pipe.zadd(queue_of(place), dict.fromkeys(names, 1))
    pipe.execute()


def listed_locks(place: Workplace) -> None:
    """Locks of another type, of so many jobs that the intake would pause."""
    for _ in range(20):
        place.redis.rpush(f"arq:in-progress:{job(place, body=payload())}", "x")


def crowd_of_ids(place: Workplace) -> None:
    place.redis.config_set("proto-max-bulk-len", "8mb")
    job(place, body=payload(a=[[str(uuid4()) for _ in range(50_000)]]))
    place.redis.config_set("proto-max-bulk-len", "1mb")


def other_type(place: Workplace, key: str) -> None:
    place.redis.set(key, "not what it should be")


def large_heartbeats(place: Workplace) -> None:
    for number in range(20):
        place.redis.zadd(f"{STREAM}:workers", {f"host:{number}:aaaaaaaa": 9e15})
        place.redis.set(f"{STREAM}:health:host:{number}:aaaaaaaa", b"x" * 1_000_000, ex=5)


def strange_workers(place: Workplace) -> None:
    place.redis.zadd(f"{STREAM}:queues", {b"\xff\xfe": 1, b"x" * 100_000: 1, b"gone": "-inf"})
    place.redis.zadd(f"{STREAM}:workers", {b"\xff\xfe": "inf", b"host:1:a": "-inf"})


def large_messages(place: Workplace) -> None:
    for _ in range(20):
        place.redis.xadd("media:events", {"event": b"x" * 1_000_000})


WRITTEN: dict[str, Callable[[Workplace], object]] = {
    "the group destroyed": lambda place: place.redis.xgroup_destroy(STREAM, "workers"),
    "SETID": lambda place: place.redis.xgroup_setid(STREAM, "workers", "$"),
    "the queue as text": lambda place: other_type(place, queue_of(place)),
    "arq's aborts as text": lambda place: other_type(place, "arq:abort"),
    "no JSON": partial(job, body="\x80 no JSON"),
    "a list": partial(job, body="[1, 2]"),
    "bad arguments": partial(job, body=payload(a=[1, 2, 3])),
    "an unknown function": partial(job, body=payload(f="rm")),
    "a huge t": partial(job, body=payload(t=10**18)),
    "et as text": partial(job, body=payload(et="x")),
    "a huge et": partial(job, body=payload(et=10**18)),
    "a negative et": partial(job, body=payload(et=-(10**18))),
    "no payload": job,
    "a name that is no UTF-8": partial(job, name=b"\xff\xfe"),
    "a name of 1 MB": partial(job, name=b"x" * 1_000_000),
    "20 names of 1 MB": lambda place: [job(place, name=bytes([97 + n]) * 1_000_000) for n in range(20)],
    "the score -inf": partial(job, body=payload(), score="-inf"),
    "the score 0": partial(job, body=payload(), score=0),
    "a huge score": partial(job, body=payload(), score=1e300),
    "tries in words": counted_in_words,
    "a lock for ever": locked,
    "20,000 locks for ever": partial(locked, count=20_000),
    "2,000 locks for a year": partial(locked, count=2_000, ex=365 * 24 * 3600),
    "locks of another type": listed_locks,
    "a job of 50,000 ids": crowd_of_ids,
    "heartbeats of 20 MB": large_heartbeats,
    "workers with no name": strange_workers,
    "messages of 20 MB": large_messages,
}


def state_of(place: Workplace, source: str) -> object:
    found = place.database.rows(f"SELECT state FROM uploads WHERE source = '{source}'")
    return found[0]["state"] if found else None


def upload(place: Workplace) -> str:
    source = place.put(f"uploads/{uuid4().hex}.jpg", pictures.small())
    place.send({"source": source})
    return source


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.rotating(5)
def test_an_upload_is_ready_soon_after_what_a_neighbour_wrote(crowded: Workplace, written: str) -> None:
    WRITTEN[written](crowded)
    began = time.monotonic()
    source = upload(crowded)

    eventually(lambda: state_of(crowded, source) == "ready", 4 * SOON_S)

    assert time.monotonic() - began < SOON_S
    assert crowded.workers[0].process.poll() is None


def test_a_lock_for_ever_on_the_job_of_an_upload_holds_it_up_no_longer_than_a_lease(
    crowded: Workplace,
) -> None:
    crowded.workers[0].signal(signal.SIGSTOP)
    source = upload(crowded)
    crowded.workers[0].signal(signal.SIGCONT)
    eventually(lambda: state_of(crowded, source) is not None)
    [row] = crowded.database.rows(f"SELECT job_id FROM uploads WHERE source = '{source}'")
    crowded.redis.set(f"arq:in-progress:{row['job_id']}", "x")

    eventually(lambda: state_of(crowded, source) == "ready", SOON_S)


def test_a_worker_starts_where_a_neighbour_has_written_all_of_it(workplace: Workplace) -> None:
    for name, write in WRITTEN.items():
        if not name.endswith("as text") and name not in ("the group destroyed", "SETID"):
            write(workplace)
    worker = workplace.start()
    source = upload(workplace)

    eventually(lambda: state_of(workplace, source) == "ready")

    assert worker.logged("corrupt_jobs_removed")
    assert worker.stop() == 0
    assert not worker.logged("worker_failed")
