"""Programs that end with the process that started them: servers for the demo and the tests."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

STOP_SECONDS = 5.0

# The program dies with the process that started it, even if that process is killed and can clean up nothing.
# A launcher does that and not a `preexec_fn`, which may deadlock when the caller has threads. The pid stays
# the same over exec.
LAUNCHER = """
import ctypes, os, signal, sys
parent, executable, *arguments = sys.argv[1:]
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("the process that started this one is gone")
os.execv(executable, [executable, *arguments])
"""


# Before the signal is chosen, for a change of the user takes that choice back. The interpreter and what it
# imports are read before: the other user may not be able to.
BECOME = """
import ctypes, os, signal
os.setgroups([])
os.setgid({group})
os.setuid({user})
"""


def launch(
    command: Sequence[str],
    output: int | IO[bytes],
    env: Mapping[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that dies with this process, but not of its Ctrl-C; as `user` where one is named."""
    program = BECOME.format(user=user.pw_uid, group=user.pw_gid) + LAUNCHER if user else LAUNCHER
    return subprocess.Popen(  # noqa: S603 - no shell
        [sys.executable, "-I", "-S", "-c", program, str(os.getpid()), *command],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """End the whole session: a file called redis-server may be a script that starts the server."""
    _signal(process, number)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS raises the second where a process has ended
        os.killpg(process.pid, number)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tail(log: Path) -> str:
    try:
        return "\n".join(log.read_text("utf-8", "replace").splitlines()[-10:])
    except FileNotFoundError:
        return ""
