"""Stopping: no new work after the first signal, nothing more at all after the second."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Shutdown:
    """Whether the worker is to stop, and the batches that a second signal cuts short."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._batches: set[asyncio.Task[Any]] = set()

    @property
    def batches(self) -> int:
        return len(self._batches)

    def listen(self) -> None:
        """Handle SIGTERM and SIGINT from now on.

        arq has handlers on the event loop; a handler of the process is called beside them, so that
        both the `arq` command and our own learn of the signal.
        """
        loop = asyncio.get_running_loop()

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.on_signal)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)

    def ignore_signals(self) -> None:
        """Ignore signals from now on: everything is closed, and the process only has to exit with its code.

        A loop that closes restores the default handlers, which would kill the process.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def on_signal(self) -> None:
        """Begin to stop; at the second signal cancel the batches."""
        if self.stopping.is_set():
            for batch in self._batches:
                batch.cancel()  # each releases its uploads untouched
        self.stopping.set()

    @contextmanager
    def cancellable(self) -> Iterator[None]:
        """Let a second signal cancel the task that runs the body."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a batch runs in a task")
        self._batches.add(task)
        try:
            yield
        finally:
            self._batches.discard(task)
