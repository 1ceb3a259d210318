"""Workers that can be made to fail."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.fork_server import CommandForks, LoggedProcess
from tests.support.workplace import WorkerProcess


class ForkedWorker(WorkerProcess):
    """A worker of the fork server: arm it, and its fault begins."""

    def __init__(
        self, fork_server: CommandForks, words: Sequence[str], env: Mapping[str, str], cwd: Path
    ) -> None:
        super().__init__(LoggedProcess(fork_server, ["chaos", *words], env, cwd))

    def arm(self) -> None:
        """From now on it goes wrong."""
        self._signal_and_hear(signal.SIGUSR1, "fault_armed")

    def disarm(self) -> None:
        """From now on it goes well."""
        self._signal_and_hear(signal.SIGUSR2, "fault_ended")

    def _signal_and_hear(self, number: signal.Signals, answer: str) -> None:
        before = len(self.logged(answer))
        self.signal(number)
        with self._answer:
            self._answer.wait_for(lambda: self._ended or len(self.logged(answer)) > before, 10)
