"""Workers that can be made to fail."""

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.nursery import Nursery, Nursling
from tests.support.workplace import WorkerProcess


def open_nursery() -> Nursery:
    """Where they are forked."""
    return Nursery("tests.chaos.crashing_worker")


class _Hatchling(Nursling):
    """One of them, its log in a pipe."""

    def __init__(self, nursery: Nursery, words: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        ours, theirs = os.pipe()
        nothing = os.open(os.devnull, os.O_WRONLY)
        super().__init__(nursery, words, env, cwd, stdout=nothing, stderr=theirs)
        os.close(nothing)
        os.close(theirs)
        self.stderr = os.fdopen(ours, "rb")


class ForkedWorker(WorkerProcess):
    """A worker of the nursery: arm it, and its mischief begins."""

    def __init__(self, nursery: Nursery, words: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.began = time.monotonic()
        child: Any = _Hatchling(nursery, words, env, cwd)
        self.process = child
        self.pid = child.pid
        self.lines = []
        self._told = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def arm(self) -> None:
        """From now on it goes wrong."""
        self._signal_and_hear(signal.SIGUSR1, "armed")

    def disarm(self) -> None:
        """From now on it goes well."""
        self._signal_and_hear(signal.SIGUSR2, "disarmed")

    def _signal_and_hear(self, number: signal.Signals, told: str) -> None:
        before = len(self.logged(told))
        self.signal(number)
        with self._told:
            self._told.wait_for(lambda: self._ended or len(self.logged(told)) > before, 10)
