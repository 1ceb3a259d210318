"""How much the page of the storage draws, and how long it waits."""

import asyncio

import pytest

from storage.errors import BlobsUnavailable
from worker.http.console.bounded import storage_answer
from worker.http.console.storage import GrowthPoint, thinned


def test_of_many_years_some_days_are_drawn_the_first_and_the_last_among_them() -> None:
    points = [GrowthPoint(day, str(day), day, 0, 0) for day in range(4000)]
    kept = thinned(points, 90)

    assert (len(kept), kept[0].time_ms, kept[-1].time_ms) == (90, 0, 3999)
    assert thinned(points[:50], 90) == points[:50]


async def test_a_storage_that_hangs_counts_as_away() -> None:
    with pytest.raises(BlobsUnavailable, match="did not answer"):
        await storage_answer(asyncio.Event().wait(), 0.01)
