"""How long a page waits for what may hang: for many questions a moment; then it shows the rest."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from storage.errors import BlobsUnavailable, StorageError
from worker.queue import QueueUnavailable

T = TypeVar("T")
WITHIN_S = 0.5
QUEUE_S = 2.0  # its client tries again for longer than people wait
STORAGE_S = 5.0


async def queue_answer(asked: Coroutine[Any, Any, T]) -> T:
    """What Redis answers. Raises: QueueUnavailable where it takes too long, and what it raises."""
    return await _within(QUEUE_S, asked, QueueUnavailable(f"nothing came within {QUEUE_S:g} s"))


async def storage_answer(asked: Coroutine[Any, Any, T], within_s: float = STORAGE_S) -> T:
    """What the storage answers. Raises: BlobsUnavailable where it takes too long, and what it raises."""
    away = BlobsUnavailable(f"the storage did not answer within {within_s:g} s")
    return await _within(within_s, asked, away)


async def _within(seconds: float, asked: Coroutine[Any, Any, T], late: Exception) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError as error:
        raise late from error


class Unanswered(Exception):
    """What was asked did not answer in time, or said why it cannot; the message is for people."""


class BoundedQuestion(Generic[T]):
    """A question of many pages: it is asked once at a time, and nobody waits longer than `within_s` for it.

    What hangs is not asked again by every page that is loaded meanwhile, so that it fills no pool.
    """

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]], within_s: float = WITHIN_S) -> None:
        self._ask = ask
        self._within_s = within_s
        self._asking: asyncio.Task[T] | None = None
        self._reason = ""  # why it was not answered the last time

    async def answer(self) -> T:
        """The answer. Raises: Unanswered."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._note)  # there may be nobody left to hear of an error
        asking = self._asking
        done, _ = await asyncio.wait({asking}, timeout=self._within_s)
        if not done:
            raise Unanswered(self._reason or f"no answer within {self._within_s} s")
        try:
            return asking.result()
        except (QueueUnavailable, StorageError) as error:
            raise Unanswered(_reason(error)) from error

    def _note(self, asking: asyncio.Task[T]) -> None:
        error = None if asking.cancelled() else asking.exception()
        self._reason = _reason(error) if error else ""


def _reason(error: BaseException) -> str:
    return error.explain() if isinstance(error, QueueUnavailable) else str(error)
