"""Many workers on one Redis: what they ask of it, and how they share what one of them has taken."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import pictures
from tests.support.catalog_rows import rows_of
from tests.support.clients import WITH_SERVICES
from tests.support.stub_decoder import HANG
from tests.support.workplace import Workplace, eventually

_EACH = 10  # uploads for each worker
_IDLE_S = 15  # every periodic question but the one for rights is asked several times


@pytest.mark.campaign
def test_the_redis_commands_of_an_upload_are_as_many_with_16_workers_as_with_2(
    workplace: Workplace, postgres_catalog_url: str
) -> None:
    """At a pace that a machine with few cores can keep, or they would poll the longer for an upload."""
    workplace.settings |= {"MEDIA_CATALOG_URL": postgres_catalog_url, "MEDIA_CATALOG_POOL": "2"}
    of_an_upload = {}
    for count in (2, 16):
        _have_workers(workplace, count)
        of_an_upload[count] = _commands(workplace, lambda: _work_by_pace(workplace)) / (_EACH * count)
    idle = _commands(workplace, lambda: time.sleep(_IDLE_S)) / (_IDLE_S * 16)

    print(f"{of_an_upload}; a second of an idle worker: {idle}")  # noqa: T201
    assert of_an_upload[16] < 1.25 * of_an_upload[2]
    assert idle < 15


def _have_workers(place: Workplace, count: int) -> None:
    while len(place.workers) < count:
        worker = place.start("stub", ready=False, MEDIA_LEASE="15", MEDIA_RECONCILE_INTERVAL="60")
        worker.await_log("healthy", within=120)


def _work_by_pace(place: Workplace) -> None:
    """For each worker one upload every two seconds."""
    count = len(place.workers)
    sources = [place.put(f"uploads/{count}/{n}.jpg", pictures.small(n)) for n in range(_EACH * count)]
    began = time.monotonic()
    for number, source in enumerate(sources):
        time.sleep(max(0, began + 2 * number / count - time.monotonic()))
        place.send({"source": source})
    place.await_end_of(*sources, within=60)


def _commands(place: Workplace, act: Callable[[], None]) -> float:
    """How many commands Redis gets meanwhile."""
    server: Any = place.redis
    server.config_resetstat()
    act()
    return float(sum(command["calls"] for command in server.info("commandstats").values()))


@WITH_SERVICES
def test_a_worker_that_comes_later_takes_what_another_one_has_taken_and_cannot_begin(
    workplace: Workplace,
) -> None:
    first = workplace.start("stub", MEDIA_CPUS="1")
    workplace.send({"source": workplace.put("uploads/hang.jpg", pictures.small() + HANG)})
    eventually(lambda: bool(rows_of(workplace.catalog, "SELECT 1 FROM uploads WHERE state = 'processing'")))
    sources = [workplace.put(f"uploads/{n}.jpg", pictures.small(n)) for n in range(24)]
    workplace.send_all({"source": source} for source in sources)
    eventually(lambda: workplace.redis.xlen("media:uploads") == 0)  # it has read all

    second = workplace.start("stub", MEDIA_CPUS="1")
    workplace.listen(lambda got: len(got) >= 4)

    second.await_log("batch")
    assert not first.logged("batch")
    first.kill()
    assert second.stop() == 0
