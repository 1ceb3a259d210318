"""How long a page waits for what may hang: for many questions a moment; then it shows the rest."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from storage.errors import BlobsUnavailable, StorageError
from worker.http.face import Face
from worker.queue import QueueUnavailable

T = TypeVar("T")
WITHIN_S = 0.5
QUEUE_S = 2.0  # its client tries again for longer than people wait
STORAGE_S = 5.0


async def queue_answer(asked: Coroutine[Any, Any, T]) -> T:
    """What Redis answers. Raises: QueueUnavailable where it takes too long, and what it raises."""
    try:
        async with asyncio.timeout(QUEUE_S):
            return await asked
    except TimeoutError as error:
        raise QueueUnavailable(f"nothing came within {QUEUE_S:g} s") from error


class StorageAnswers:
    """Waits a while for an answer, and asks nothing while one is overdue: each takes one of a few threads."""

    def __init__(self, _face: Face | None = None, within_s: float = STORAGE_S) -> None:
        self._within_s = within_s
        self._overdue = set[asyncio.Task[Any]]()

    async def answer(self, asked: Coroutine[Any, Any, T]) -> T:
        """What the storage answers. Raises: BlobsUnavailable where it takes too long, and what it raises."""
        if self._overdue:
            asked.close()
            raise BlobsUnavailable("the storage did not answer yet what it was asked before")
        asking = asyncio.create_task(asked)
        # It is not cancelled: whoever cancels a thread waits for its end.
        done, _ = await asyncio.wait({asking}, timeout=self._within_s)
        if not done:
            self._overdue.add(asking)
            asking.add_done_callback(self._end)
            raise BlobsUnavailable(f"the storage did not answer within {self._within_s:g} s")
        return asking.result()

    def _end(self, asking: asyncio.Task[Any]) -> None:
        self._overdue.discard(asking)
        if not asking.cancelled():
            asking.exception()  # which nobody is left to hear


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
