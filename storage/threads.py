"""Blocking work in threads: a caller that is cancelled waits until its thread ends, or leaves it alone."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, takewhile
from math import inf
from typing import Generic, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q")
A = TypeVar("A")
E = TypeVar("E", bound=BaseException)

LEAST_THREADS = 8  # they mostly wait for a disk, whatever the CPUs
_MOST_THREADS = 32
_SLOW_S, _SLOW_EACH_S = 0.05, 0.01  # beyond what a busy machine makes of what is quick

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPoolExecutor] = WeakKeyDictionary()


async def start_threads(cpus: int) -> None:
    """Start all threads that `in_thread` may ever use, because a crowded machine may allow none later.

    Their number depends on `cpus`. A worker that starts again in the same event loop uses the same threads.

    Raises: RuntimeError where the machine allows no more threads.
    """
    loop = asyncio.get_running_loop()
    if loop in _pools:
        return
    threads = min(_MOST_THREADS, max(LEAST_THREADS, cpus + 4))
    pool = ThreadPoolExecutor(threads, "blocking")
    together = threading.Barrier(threads + 1)
    try:
        for _ in range(threads):
            pool.submit(together.wait)  # an idle thread would be used again: each waits until all are there
    except RuntimeError:
        together.abort()
        pool.shutdown(wait=False)
        raise
    together.wait()
    loop.set_default_executor(pool)
    _pools[loop] = pool


def is_lack_of_threads(error: RuntimeError) -> bool:
    """Whether `error` says that the machine allows no more threads."""
    return "can't start new thread" in str(error)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread and return its result; a cancelled caller waits until the thread has ended.

    A thread cannot be stopped, so whatever it uses must stay open until it ends.
    """
    return await in_thread_or_undo(lambda _: None, partial(function, *args, **kwargs))


async def in_thread_or_undo(undo: Callable[[T], object], function: Callable[[], T]) -> T:
    """Like `in_thread`; if the caller is cancelled, the result is passed to `undo`."""
    # No task: when a loop ends, it cancels all its tasks, and those would not wait.
    running = asyncio.get_running_loop().run_in_executor(None, function)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return running.result()
    if running.exception() is None:
        with suppress(OSError):
            await in_thread(undo, running.result())
    raise cancelled


@dataclass(eq=False)
class _Call(Generic[Q, A]):
    """A request, what has become of it, and the future that wakes whoever asked."""

    request: Q
    woken: asyncio.Future[None]
    answer: A | BaseException | None = None
    is_over: bool = False

    def end(self, answer: A | BaseException) -> None:
        self.answer, self.is_over = answer, True
        if not self.woken.done():
            self.woken.set_result(None)


class Grouped(Generic[Q, A]):
    """Calls that wait at the same moment are done by one call of `work` in a thread, at most so many.

    Where calls differ in `size`, a group has at most so much of it, or one call.

    `work` returns for each request its answer or the exception that its caller gets. A caller waits for the
    next turn of the event loop and, unless groups may `overlap`, for the group before its own; where they
    may, each call has a thread of its own while others take long. One that is cancelled leaves at once while
    its group has not begun, and otherwise when that has ended, as from `in_thread`; what it would have got is
    passed to `undo`.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Sequence[A | Exception]],
        most: int,
        *,
        overlap: bool = False,
        undo: Callable[[A], object] = lambda _: None,
        size: Callable[[Q], int] = lambda _: 1,
    ) -> None:
        self._work = work
        self._most = most
        self._overlap = overlap
        self._undo = undo
        self._size = size
        self._waiting: list[_Call[Q, A]] = []
        self._is_busy = False
        self._running: dict[asyncio.Future[Sequence[A | Exception]], float] = {}
        self._was_slow = False

    async def __call__(self, request: Q) -> A:
        loop = asyncio.get_running_loop()
        call: _Call[Q, A] = _Call(request, loop.create_future())
        self._waiting.append(call)
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._begin, loop)  # whoever comes until then goes along
        cancelled: asyncio.CancelledError | None = None
        while not call.is_over:
            try:
                await call.woken
            except asyncio.CancelledError as error:
                if call in self._waiting:
                    self._waiting.remove(call)
                    raise
                cancelled, call.woken = error, loop.create_future()
        if cancelled is not None:
            if not isinstance(call.answer, BaseException):
                with suppress(OSError):
                    await in_thread(self._undo, cast(A, call.answer))
            raise cancelled
        if isinstance(call.answer, BaseException):
            raise call.answer
        return cast(A, call.answer)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            most = 1 if self._overlap and self._is_slow() else self._fitting()
            group, self._waiting = self._waiting[:most], self._waiting[most:]
            try:
                running = loop.run_in_executor(None, self._work, [call.request for call in group])
            except RuntimeError as error:  # no thread can be started
                _end(group, [error] * len(group))
                continue
            self._running[running] = time.monotonic()
            running.add_done_callback(partial(self._ended, loop, group))
            if not self._overlap:
                return
        self._is_busy = False

    def _fitting(self) -> int:
        sizes = accumulate(self._size(call.request) for call in self._waiting)
        return max(1, sum(1 for _ in takewhile(lambda size: size <= self._most, sizes)))

    def _is_slow(self) -> bool:
        return self._was_slow or time.monotonic() - min(self._running.values(), default=inf) > _SLOW_S

    def _ended(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Call[Q, A]],
        ended: asyncio.Future[Sequence[A | Exception]],
    ) -> None:
        took = time.monotonic() - self._running.pop(ended)
        self._was_slow = took > _SLOW_S + _SLOW_EACH_S * (len(group) - 1)
        if not self._overlap:
            self._begin(loop)
        error = asyncio.CancelledError() if ended.cancelled() else ended.exception()
        _end(group, ended.result() if error is None else [error] * len(group))


def _end(group: Sequence[_Call[Q, A]], answers: Sequence[A | BaseException]) -> None:
    raised: set[int] = set()
    for call, answer in zip(group, answers, strict=True):
        is_shared = isinstance(answer, BaseException) and id(answer) in raised
        raised.add(id(answer))
        call.end(copied(answer) if is_shared and isinstance(answer, BaseException) else answer)


def copied(error: E) -> E:
    """The same exception once more, for another task to raise: traceback and notes are each one's own."""
    kind, given = type(error), cast(tuple[object, tuple[object, ...]], error.__reduce__()[:2])[1]
    copy: E = kind.__new__(kind, *given)  # no `__init__`, which may want something else than what it keeps
    copy.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        copy.__notes__ = [*notes]
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy.with_traceback(error.__traceback__)


def cancellation() -> Callable[[], bool]:
    """Whether this task was cancelled, for a thread that can stop by itself: its caller waits for it."""
    task = asyncio.current_task()
    return lambda: task is not None and task.cancelling() > 0


async def in_thread_within(seconds: float, function: Callable[[], T]) -> T:
    """Call `function` in a thread of its own and return its result, if it comes within `seconds`.

    After that the thread is left alone: neither the event loop nor the process waits for it at its end.

    Raises: TimeoutError.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not answer.done():
            settled()

    def work() -> None:
        try:
            settled = partial(answer.set_result, function())
        except Exception as error:  # for whoever awaits it
            settled = partial(answer.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, settled)

    threading.Thread(target=work, name="left-alone", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await answer
