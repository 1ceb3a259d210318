"""Hosts whose clocks are 5 minutes apart share one catalog in Postgres: its server's clock decides."""

import time
from collections.abc import Callable

import pytest

from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.catalogs import claim, commit, key, postponed, ready, take, try_claim, upload_event

APART_S = 300.0
Clock = Callable[[float], None]


@pytest.fixture
def database_kind() -> str:
    return "postgres"


@pytest.fixture
def put_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Act as a host whose clock is so many seconds ahead of the right time, or behind it."""
    right = time.time_ns

    def put(seconds: float) -> None:
        monkeypatch.setattr("storage.catalog.clock.wall_ns", lambda: right() + int(seconds * 1e9))

    return put


@pytest.mark.parametrize("ahead_s", [APART_S, -APART_S])
async def test_a_lease_is_not_stolen_by_a_host_with_another_clock(
    catalog: Catalog, another: Catalog, put_clock: Clock, ahead_s: float
) -> None:
    assert await catalog.sweeps.lease("one", 60)
    put_clock(ahead_s)

    assert not await another.sweeps.lease("two", 60)


@pytest.mark.parametrize("behind_s", [APART_S, -APART_S])
async def test_a_file_that_a_host_with_another_clock_moved_is_published_again(
    catalog: Catalog, another: Catalog, put_clock: Clock, behind_s: float
) -> None:
    await take(catalog, upload_event(1))
    mine = ready(await claim(catalog))
    put_clock(-behind_s)
    keys = [one.key for one in mine.variants]
    assert await another.sweeps.lease("sweeper", 60)
    assert await another.sweeps.mark_orphans("sweeper", keys)
    await another.sweeps.clear_marks("sweeper", moved=keys, untouched=[])
    put_clock(0)

    assert (await commit(catalog, mine)).state is State.QUEUED


async def test_an_upload_that_is_put_off_is_not_claimed_by_a_host_that_is_ahead(
    catalog: Catalog, another: Catalog, put_clock: Clock
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), delay_ms=60_000))
    put_clock(APART_S)

    assert await try_claim(another) is None
