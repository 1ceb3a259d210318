"""Blocking work in a thread, which does not outlive the one who waits for it."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = min(32, (os.cpu_count() or 1) + 4)  # as many as asyncio would start, one after another


async def start_threads() -> None:
    """Start all threads that `in_thread` may ever use, so that none has to be started when there is no room.

    Raises: RuntimeError where the machine allows no more threads.
    """
    pool = ThreadPoolExecutor(_THREADS, "blocking")
    together = threading.Barrier(_THREADS + 1)
    try:
        for _ in range(_THREADS):
            pool.submit(together.wait)  # until all are there, for an idle one would be used again
    except RuntimeError:
        together.abort()
        pool.shutdown(wait=False)
        raise
    together.wait()
    asyncio.get_running_loop().set_default_executor(pool)


def is_lack_of_threads(error: RuntimeError) -> bool:
    """Whether that is Python's word for a machine that allows no more threads."""
    return "can't start new thread" in str(error)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` gives in a thread; who is cancelled leaves only when it has ended.

    A thread cannot be stopped: whatever it uses must stay until it ends.
    """
    return await in_thread_or_undo(lambda _: None, partial(function, *args, **kwargs))


async def in_thread_or_undo(undo: Callable[[T], object], function: Callable[[], T]) -> T:
    """The same, where what nobody is left to take is given to `undo`."""
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
