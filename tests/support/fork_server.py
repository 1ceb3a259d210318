"""Processes forked from one that has imported everything: what they do is real, only quicker begun."""

import atexit
import contextlib
import ctypes
import functools
import gc
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.support.rights import give_up_roots_rights

_PR_SET_PDEATHSIG = 1
# What commands import only where they need it, which is nearly always.
_LATE = (
    "aiosqlite",
    "alembic.command",
    "encodings.idna",
    "rich.bar",
    "scripts.targets",
    "storage.catalog.sqlite",
    "storage.catalog.moving",
    "storage.catalog.postgres",
    "pipelines.stats.drift",
    "pipelines.sweep.applying",
    "pipelines.sweep.planning",
    "pipelines.sweep.trash",
    "pipelines.sweep.verify",
    "typer.rich_utils",
    "worker.doctor.examination",
    "worker.failure_lists",
    "worker.failures",
    "worker.health_check",
    "worker.http.keys",
    "worker.http.server",
    "worker.queue_depth",
    "worker.receiving",
    "worker.restoring",
    "worker.settings_or_exit",
    "worker.supervise",
)


class CommandForks:
    """The process that forks them: `python -m module`, which calls `nurse`."""

    def __init__(self, module: str) -> None:
        self._lock = threading.Lock()
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=theirs.fileno(), stdout=sys.stderr
        )
        theirs.close()

    def order(self, order: Mapping[str, Any], *fds: int) -> int:
        """Send one order; returns its answer."""
        with self._lock:
            socket.send_fds(self._sock, [json.dumps(order).encode()], fds)
            answer: int = json.loads(self._sock.recv(100))
        return answer

    def close(self) -> None:
        """No more children."""
        self._sock.close()
        self._process.wait(10)


@functools.cache
def commands() -> CommandForks:
    """The one that forks the project's commands, until the tests end."""
    opened = CommandForks("tests.support.forked_commands")
    atexit.register(opened.close)
    return opened


class ForkedProcess:
    """A forked process, with what is used of a `Popen`."""

    def __init__(
        self,
        fork_server: CommandForks,
        words: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        *,
        stdout: int,
        stderr: int,
        confined: bool = False,
    ) -> None:
        self._fork_server = fork_server
        order = {"words": list(words), "env": dict(env), "cwd": str(cwd), "confined": confined}
        self.pid = fork_server.order(order, stdout, stderr)
        self._fd = os.pidfd_open(self.pid)
        self._lock = threading.Lock()
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        with self._lock:
            if self.returncode is None:
                self.returncode = self._fork_server.order({"reap": self.pid})
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


class LoggedProcess(ForkedProcess):
    """One that writes its log into a pipe, and else nothing."""

    def __init__(
        self, fork_server: CommandForks, words: Sequence[str], env: Mapping[str, str], cwd: Path
    ) -> None:
        ours, theirs = os.pipe()
        nothing = os.open(os.devnull, os.O_WRONLY)
        super().__init__(fork_server, words, env, cwd, stdout=nothing, stderr=theirs)
        os.close(nothing)
        os.close(theirs)
        self.stderr = os.fdopen(ours, "rb")


def serve_forks(work: Callable[[Sequence[str]], None]) -> None:
    """Fork a process for each order on the standard input; each does `work` with its words."""
    for module in _LATE:
        import_module(module)
    gc.freeze()  # what is imported stays: to look it through would copy it into every process
    orders = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    while True:
        body, fds, _, _ = socket.recv_fds(orders, 65536, 2)
        if not body:
            return
        order = json.loads(body)
        if "reap" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["reap"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                with _as_a_process():
                    orders.close()
                    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it dies with the fork server
                    _take_up(order, *fds)
                    work(order["words"])
            for fd in fds:
                os.close(fd)
        orders.send(json.dumps(answer).encode())


def _take_up(order: Mapping[str, Any], stdout: int, stderr: int) -> None:
    for fd, target in ((stdout, 1), (stderr, 2)):
        os.dup2(fd, target)
        os.close(fd)
    if order["confined"]:
        give_up_roots_rights()
    os.environ.clear()
    os.environ.update(order["env"])
    os.chdir(order["cwd"])


@contextlib.contextmanager
def _as_a_process() -> Iterator[None]:
    try:
        yield
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
