"""Hosts whose clocks are 5 minutes apart share one catalog in Postgres: its server's clock decides."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest
from sqlalchemy import update

from storage.catalog.locks import SWEEP
from storage.catalog.opening import Catalog
from storage.catalog.records import Ready, State
from storage.catalog.tables import deletion_marks
from tests.support.catalogs import claim, commit, postponed, ready, take, try_claim, upload, upload_event
from tests.support.host_clock import Clock
from tests.support.polling import until
from tests.support.races import waits_for_a_lock

APART_S = 300.0
WAITS_S = 0.1  # far more than two measures of a clock differ by


@pytest.fixture
def database_kind() -> str:
    return "postgres"


async def move_away(catalog: Catalog, outcome: Ready) -> Sequence[str]:
    """Move the files of `outcome` away, as a sweep does that found no rows of them."""
    keys = [one.key for one in outcome.variants]
    assert await catalog.sweeps.lease("sweeper", 60)
    assert await catalog.sweeps.mark_for_deletion("sweeper", keys)
    await catalog.sweeps.clear_marks("sweeper", moved=keys, untouched=[])
    return keys


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
    await move_away(another, mine)
    put_clock(0)

    assert (await commit(catalog, mine)).state is State.QUEUED


async def test_an_upload_that_is_put_off_is_not_claimed_by_a_host_that_is_ahead(
    catalog: Catalog, another: Catalog, put_clock: Clock
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), delay_ms=60_000))
    put_clock(APART_S)

    assert await try_claim(another) is None


@pytest.mark.parametrize(
    ("database_kind", "before_ms", "state"),
    [
        ("sqlite", 3000, State.READY),
        ("postgres", 3000, State.QUEUED),
        ("postgres", 8000, State.READY),
    ],
)
async def test_a_file_moved_seconds_before_the_claim_is_published_again_where_two_clocks_may_say_so(
    catalog: Catalog, before_ms: int, state: State
) -> None:
    await take(catalog, upload_event(1))
    mine = ready(await claim(catalog))
    await move_away(catalog, mine)
    async with catalog.database.writing() as connection:
        earlier = {"moved_ms": mine.claim.began_ms - before_ms}
        await connection.execute(update(deletion_marks).values(earlier))

    assert (await commit(catalog, mine)).state is state


async def test_the_claim_after_that_is_later_than_the_move_by_any_clock(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    mine = ready(await claim(catalog))
    await move_away(catalog, mine)
    moved_ms = catalog.database.now_ms()
    await commit(catalog, mine)

    began_ms = (await upload(catalog)).not_before_ms
    assert began_ms - catalog.database.backend.clock_error_ms > moved_ms


async def test_an_outcome_that_waited_for_a_sweep_is_of_the_time_at_which_it_is_written(
    catalog: Catalog, another: Catalog
) -> None:
    await take(catalog, upload_event(1))
    mine = ready(await claim(catalog))
    async with another.database.writing() as connection:
        await another.database.exclude(connection, SWEEP)
        waiting = asyncio.ensure_future(commit(catalog, mine))
        await until(partial(waits_for_a_lock, another))
        waited_ms = catalog.database.now_ms()
        await asyncio.sleep(WAITS_S)
    await waiting

    assert (await upload(catalog)).changed_ms > waited_ms
