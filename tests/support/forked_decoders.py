"""The parent of decoders, forked from a command that was forked: to start the program takes 0.14 s of CPU.

It does all that the program does, in a process that has imported it. What the sandbox's own tests start, and
what installed commands do, is the program.
"""

import ctypes
import gc
import inspect
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["VIPS_CONCURRENCY"] = "1"  # libvips reads it when it is imported

from pipelines.decoder.__main__ import main
from pipelines.sandbox import fork_server

_ARG_START, _ENV_END = 45, 48  # of /proc/PID/stat, counted behind the name
_PIPES = "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"
_M_ARENA_MAX = -8  # malloc.h
_libc = ctypes.CDLL(None)
_parameters = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]


class _Forked(subprocess.Popen[bytes]):
    """What `subprocess` would start, forked where that is the parent of decoders."""

    def _execute_child(self, *given: Any) -> None:
        asked = _parameters.bind(self, *given).arguments
        words = asked["args"]
        if tuple(words[:-1]) != fork_server.DECODER:
            super()._execute_child(*given)  # type: ignore[misc]
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: none has a lock that it takes
            self.pid = os.fork()
        if self.pid == 0:
            _become(words, asked)
        self._child_created = True
        self._close_pipe_fds(*(asked[name] for name in _PIPES))  # type: ignore[attr-defined]


def fork_decoders() -> None:
    """From now on, and in what is forked, the parent of decoders is not started but forked."""
    known: Any = SimpleNamespace(**{**vars(subprocess), "Popen": _Forked})
    fork_server.subprocess = known  # type: ignore[attr-defined]


def _become(words: list[str], asked: dict[str, Any]) -> None:
    try:
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.chdir(asked["cwd"])
        for fd, target in ((asked["p2cread"], 0), (asked["c2pwrite"], 1), (asked["errwrite"], 2)):
            os.dup2(fd, target)
        os.environ.clear()
        os.environ.update(asked["env"])
        if hasattr(_libc, "mallopt"):  # it has read its environment long ago
            _libc.mallopt(_M_ARENA_MAX, int(asked["env"]["MALLOC_ARENA_MAX"]))
        _be_called(words)
        gc.enable()
        main(words[-1])
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    os._exit(code)


def _be_called(words: list[str]) -> None:
    """Have /proc show these words as the command line: they go where its own are, and its environment."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ENV_END])
    line = " ".join(words).encode()[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)
