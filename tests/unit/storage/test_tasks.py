"""Work done together: nobody leaves before all of it has ended."""

import asyncio

import pytest

from storage.tasks import completed, together


async def test_what_is_done_together_gives_its_results_in_the_order_of_the_work() -> None:
    first_may_end = asyncio.Event()

    async def first() -> int:
        await first_may_end.wait()
        return 1

    async def second() -> int:
        first_may_end.set()
        return 2

    assert await together(first(), second()) == (1, 2)


async def test_an_error_ends_the_others_and_is_raised_as_it_is_when_they_have_ended() -> None:
    ended = []

    async def patient() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("patient")

    async def failing() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        await together(patient(), failing())
    assert ended == ["patient"]


async def test_a_cancellation_waits_for_the_slowest() -> None:
    ended, at_work, may_end = [], asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        try:
            at_work.set()
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            ended.append("slow")

    async def quick() -> None:
        await asyncio.Event().wait()

    both = asyncio.ensure_future(together(slow(), quick()))
    await at_work.wait()
    both.cancel()
    asyncio.get_running_loop().call_later(0.05, may_end.set)

    with pytest.raises(asyncio.CancelledError):
        await both
    assert ended == ["slow"]


async def test_work_that_is_to_be_completed_gives_its_result_or_its_error() -> None:
    async def given() -> int:
        await asyncio.sleep(0)
        return 3

    async def failing() -> None:
        raise LookupError("lost")

    assert await completed(given()) == 3
    with pytest.raises(LookupError, match="lost"):
        await completed(failing())


@pytest.mark.parametrize("error", [None, LookupError("lost")])
async def test_who_is_cancelled_meanwhile_waits_for_the_work_and_then_is_cancelled(
    error: Exception | None,
) -> None:
    may_end, ended = asyncio.Event(), []

    async def work() -> None:
        await may_end.wait()
        ended.append("work")
        if error is not None:
            raise error

    task = asyncio.create_task(completed(work()))
    for _ in range(2):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == ["work"]
