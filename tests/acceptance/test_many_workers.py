"""Many workers on one Redis: what they ask of it, and how they share what one of them has taken."""

import time
from typing import Any

import pytest

from tests.support import pictures
from tests.support.stub_decoder import SLOW
from tests.support.workplace import Workplace

_EACH = 8  # uploads for each worker


@pytest.mark.campaign
def test_a_worker_among_16_asks_redis_no_more_often_than_one_of_2(workplace: Workplace) -> None:
    """By the second: on a machine with few cores 16 of them take longer for an upload, and poll meanwhile."""
    figures = {}
    for count in (2, 16):
        while len(workplace.workers) < count:
            workplace.start("stub", MEDIA_BATCH_SIZE="4", MEDIA_LEASE="15", MEDIA_RECONCILE_INTERVAL="60")
        figures[count] = _commands_a_second(workplace, count) / count

    assert figures[16] < 1.25 * figures[2], figures


def _commands_a_second(place: Workplace, workers: int) -> float:
    name = f"uploads/{workers}"
    sources = [place.put(f"{name}/{n}.jpg", pictures.small(n) + SLOW * 4) for n in range(_EACH * workers)]
    server: Any = place.redis
    server.config_resetstat()
    began = time.monotonic()
    place.send_all({"source": source} for source in sources)
    place.await_end_of(*sources, within=120)
    seconds = time.monotonic() - began
    commands = sum(command["calls"] for command in server.info("commandstats").values())
    print(f"{workers} workers: {commands / len(sources):.0f} an upload, in {seconds:.1f} s")  # noqa: T201
    return float(commands) / seconds


@pytest.mark.parametrize("count", [24, pytest.param(48, marks=pytest.mark.campaign)])
def test_an_idle_worker_takes_its_share_of_what_another_one_has_taken(
    workplace: Workplace, count: int
) -> None:
    workers = [workplace.start("stub", MEDIA_LEASE="15") for _ in range(2)]
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n) + SLOW) for n in range(count)]
    began = time.monotonic()

    workplace.send_all({"source": source} for source in sources)  # one of them reads all at once
    workplace.await_end_of(*sources, within=120)

    print(f"{count} in {time.monotonic() - began:.1f} s")  # noqa: T201
    assert [worker.stop() for worker in workers] == [0, 0]
    assert all(worker.logged("batch") for worker in workers)
    assert workplace.check().states == {"ready": count}
