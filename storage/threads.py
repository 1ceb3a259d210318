"""Blocking work in a thread, which does not outlive the one who waits for it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
