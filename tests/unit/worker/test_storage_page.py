"""How much the page of the storage draws, and how long it waits."""

import asyncio
import threading

import pytest

from storage.errors import BlobsUnavailable
from storage.threads import in_thread
from worker.http.console.bounded import StorageAnswers
from worker.http.console.storage import GrowthPoint, thinned


def test_of_many_years_some_days_are_drawn_the_first_and_the_last_among_them() -> None:
    points = [GrowthPoint(day, str(day), day, 0, 0) for day in range(4000)]
    kept = thinned(points, 90)

    assert (len(kept), kept[0].time_ms, kept[-1].time_ms) == (90, 0, 3999)
    assert thinned(points[:50], 90) == points[:50]


async def test_a_storage_that_hangs_counts_as_away_and_is_asked_nothing_more_until_it_answers() -> None:
    answers, hangs, ended = StorageAnswers(within_s=0.01), threading.Event(), asyncio.Event()

    async def ask() -> None:
        await in_thread(hangs.wait)
        ended.set()

    asking = asyncio.create_task(answers.answer(ask()))
    await asyncio.wait({asking}, timeout=2)
    is_in_time = asking.done()
    with pytest.raises(BlobsUnavailable, match="asked before"):
        await answers.answer(ask())
    hangs.set()
    await ended.wait()
    await asyncio.sleep(0)  # until the end of the task is heard of

    assert is_in_time
    assert "within 0.01 s" in str(asking.exception())
    assert await answers.answer(in_thread(int)) == 0
