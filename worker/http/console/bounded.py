"""Questions that may hang: a page waits a moment for the answer, and shows the rest without it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from storage.errors import StorageError
from worker.queue import QueueUnavailable

T = TypeVar("T")
WITHIN_S = 0.5


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
