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
        """How many batches are in hand."""
        return len(self._batches)

    def listen(self) -> None:
        """Hear SIGTERM and SIGINT from now on.

        arq has handlers on the event loop; a handler of the process is called beside them, so that
        both the `arq` command and our own get to know.
        """
        loop = asyncio.get_running_loop()

        def heard(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self.heard)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, heard)

    def turn_deaf(self) -> None:
        """Hear no more signals: all is closed, and what is left is to end with the right exit code.

        A loop that closes gives signals their default back, which is to die of them.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def heard(self) -> None:
        """Take note of a signal."""
        if self.stopping.is_set():
            for batch in self._batches:
                batch.cancel()  # each gives its uploads back untouched
        self.stopping.set()

    @contextmanager
    def can_cut(self) -> Iterator[None]:
        """Let a second signal cancel the task that runs the body."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a batch runs in a task")
        self._batches.add(task)
        try:
            yield
        finally:
            self._batches.discard(task)
