"""Workers that can be made to fail, forked from one process that has imported everything."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.workplace import WorkerProcess


class Nursery:
    """The process that forks them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.crashing_worker"], stdin=theirs.fileno(), stdout=sys.stderr
        )
        theirs.close()

    def order(self, order: Mapping[str, Any], *fds: int) -> int:
        """Send one order; gives its answer."""
        with self._lock:
            socket.send_fds(self._sock, [json.dumps(order).encode()], fds)
            answer: int = json.loads(self._sock.recv(100))
        return answer

    def close(self) -> None:
        """No more children."""
        self._sock.close()
        self._process.wait(10)


class _Nursling:
    """A forked process, with what `WorkerProcess` uses of a `Popen`."""

    def __init__(self, nursery: Nursery, words: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self._nursery = nursery
        ours, theirs = os.pipe()
        self.pid = nursery.order({"words": list(words), "env": dict(env), "cwd": str(cwd)}, theirs)
        os.close(theirs)
        self.stderr = os.fdopen(ours, "rb")
        self._fd = os.pidfd_open(self.pid)
        self._lock = threading.Lock()
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        with self._lock:
            if self.returncode is None:
                self.returncode = self._nursery.order({"reap": self.pid})
                os.close(self._fd)
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._fd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedWorker(WorkerProcess):
    """A worker of the nursery: arm it, and its mischief begins."""

    def __init__(self, nursery: Nursery, words: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.began = time.monotonic()
        child: Any = _Nursling(nursery, words, env, cwd)
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
