"""Questions that may hang: how long a page waits for them, and how often they are asked."""

import asyncio

import pytest

from storage.errors import BlobsUnavailable
from worker.http.console.bounded import BoundedQuestion, Unanswered
from worker.queue import QueueUnavailable


class Hanging:
    """Answers once it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.goes = asyncio.Event()

    async def ask(self) -> int:
        self.asked += 1
        await self.goes.wait()
        return self.asked


async def test_nobody_waits_for_what_hangs_and_it_is_asked_but_once() -> None:
    hanging = Hanging()
    question = BoundedQuestion(hanging.ask, within_s=0.01)
    for _ in range(3):
        with pytest.raises(Unanswered, match="no answer within"):
            await question.answer()

    assert hanging.asked == 1
    hanging.goes.set()
    assert await question.answer() == 1


async def test_what_has_answered_is_asked_anew() -> None:
    hanging = Hanging()
    hanging.goes.set()
    question = BoundedQuestion(hanging.ask)

    assert [await question.answer(), await question.answer()] == [1, 2]


async def test_who_is_cancelled_takes_the_answer_from_nobody() -> None:
    hanging = Hanging()
    question = BoundedQuestion(hanging.ask, within_s=60)
    first, second = [asyncio.create_task(question.answer()) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    hanging.goes.set()

    assert await second == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (QueueUnavailable("connection refused"), "Redis does not answer: connection refused"),
        (BlobsUnavailable("the disk is gone"), "the disk is gone"),
    ],
)
async def test_who_says_why_is_repeated(error: Exception, said: str) -> None:
    async def ask() -> None:
        raise error

    with pytest.raises(Unanswered, match=said):
        await BoundedQuestion(ask).answer()


async def test_while_it_is_asked_anew_the_last_reason_is_told() -> None:
    hanging = Hanging()
    fails = True

    async def ask() -> int:
        if fails:
            raise QueueUnavailable("connection refused")
        return await hanging.ask()

    question = BoundedQuestion(ask, within_s=0.01)
    for _ in range(2):
        with pytest.raises(Unanswered, match="connection refused"):
            await question.answer()
        fails = False
    hanging.goes.set()
    assert await question.answer() == 1
