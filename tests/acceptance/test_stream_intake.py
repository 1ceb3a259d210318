"""The stream under the intake's feet: dead consumers, deleted entries, a group or a stream that is gone."""

import time

from tests.support import pictures
from tests.support.workplace import Workplace


def _put(place: Workplace, name: str, number: int = 0) -> str:
    return place.put(f"uploads/{name}.jpg", pictures.small(number))


def test_entries_of_a_dead_consumer_are_taken_over_a_few_seconds_after_the_lease(live: Workplace) -> None:
    sources = [_put(live, f"dead-{n}", n) for n in range(3)]
    pipe = live.redis.pipeline()  # in one transaction, so that the live worker cannot be first
    for source in sources:
        pipe.xadd("media:uploads", {"event": f'{{"source": "{source}"}}'})
    pipe.xreadgroup("workers", "dead", {"media:uploads": ">"})
    assert len(pipe.execute()[-1][0][1]) == 3
    began = time.monotonic()

    live.await_end_of(*sources)

    assert time.monotonic() - began < 1 + 5  # the lease, and its turn on a busy machine
    live.check()


def test_entries_that_were_deleted_while_pending_do_no_harm(live: Workplace) -> None:
    pipe = live.redis.pipeline()
    for _ in range(3):
        pipe.xadd("media:uploads", {"event": "{}"})
    pipe.xreadgroup("workers", "dead", {"media:uploads": ">"})
    *ids, _ = pipe.execute()
    live.redis.xdel("media:uploads", *ids)
    time.sleep(1.5)  # the lease passes, and they are claimed
    source = _put(live, "after-deleted")
    live.send({"source": source})

    live.await_end_of(source)

    live.check()


def test_a_deleted_stream_heals(live: Workplace) -> None:
    live.redis.delete("media:uploads")
    source = _put(live, "deleted-stream")
    live.send({"source": source})

    live.await_end_of(source)

    live.check()


def test_a_destroyed_group_heals(live: Workplace) -> None:
    live.redis.xgroup_destroy("media:uploads", "workers")
    source = _put(live, "destroyed-group")
    live.send({"source": source})

    live.await_end_of(source)

    live.check()


def test_a_redis_that_lost_everything_heals(live: Workplace) -> None:
    live.redis.flushdb()
    live.messages.clear()
    live._last = "0"
    source = _put(live, "flushed")
    live.send({"source": source})

    live.await_end_of(source)

    live.check(settled=False)


def test_the_stream_is_empty_when_everything_was_taken(live: Workplace) -> None:
    sources = [_put(live, f"depth-{n}", n) for n in range(60)]
    live.send_all({"source": source} for source in sources)

    live.await_end_of(*sources)

    assert live.redis.xlen("media:uploads") == 0
