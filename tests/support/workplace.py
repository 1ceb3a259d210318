"""A workplace for real workers: a storage root, a catalog, a Redis, and the processes at work there."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import redis

from scripts.processes import LAUNCHER
from tests.support import fork_server, processes
from tests.support.catalog_rows import CatalogRows, SqliteRows
from tests.support.checker import Findings, check
from tests.support.commands import Ended, forked, run_installed
from tests.support.fork_server import LoggedProcess
from tests.support.objects import Objects, ObjectsInFolder

BIN = Path(sys.executable).parent
# On a busy machine a try is lost, and the next is 15 s away; what must be fast is measured, not timed out.
TIMEOUT_S = 40.0
# A worker rides out the end of its Redis; it must not ride out the end of the tests that were killed.
_MORTAL = [sys.executable, "-I", "-S", "-c", LAUNCHER]
_FORKED = {"arq": ["arq", "worker.main.WorkerSettings"], "media": ["media", "worker"], "stub": ["stub"]}
STARTS = {by: [str(BIN / program), *words] for by, (program, *words) in _FORKED.items() if by != "stub"}
Started = subprocess.Popen[bytes] | LoggedProcess
Event = Mapping[str, Any]
Answer = dict[str, Any]


class WorkerProcess:
    """One worker that runs, its log read line by line."""

    def __init__(self, process: Started) -> None:
        self.began = time.monotonic()
        self.process = process
        self.pid = self.process.pid
        self.lines: list[str] = []
        self._answer = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._answer:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._answer.notify_all()
        with self._answer:
            self._ended = True
            self._answer.notify_all()

    @property
    def log(self) -> list[Answer]:
        """The lines that are JSON objects."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def logged(self, event: str) -> list[Answer]:
        """The log's lines about one kind of event."""
        return [line for line in self.log if line["event"] == event]

    def await_log(self, event: str, within: float = TIMEOUT_S) -> Answer:
        """The first line about `event`, once it is there."""
        with self._answer:
            self._answer.wait_for(lambda: self._ended or self.logged(event), within)
        found = self.logged(event)
        assert found, f"no {event} in the log:\n" + self.text
        return found[0]

    @property
    def text(self) -> str:
        """The whole log."""
        return "\n".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, within: float = TIMEOUT_S) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(within)
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.wait()

    def decoders(self) -> list[int]:
        """The pids of its decoder children."""
        return processes.decoders_of(self.pid)


class Workplace:
    """Everything of one installation; the tests' hands and eyes in it."""

    def __init__(self, home: Path, redis_url: str, catalog: Path | None = None, /, **settings: str) -> None:
        """`catalog` is one that is migrated and empty, to copy: otherwise the first worker makes one."""
        self.home = home
        self.use_root(home / "media")
        self.use_catalog(home / "catalog.db")
        self.redis_url = redis_url
        self.redis: redis.Redis = redis.Redis.from_url(redis_url, socket_timeout=10)
        self.redis.flushdb()
        self.settings = settings
        self.workers: list[WorkerProcess] = []
        self.messages: list[Answer] = []
        self._last = "0"
        if catalog is not None:
            shutil.copy(catalog, self.catalog)

    def use_root(self, root: Path) -> None:
        """From now on pictures are in this folder."""
        self.root = root
        self.storage: Objects = ObjectsInFolder(root)

    def use_catalog(self, catalog: Path) -> None:
        """From now on the catalog is this file."""
        self.catalog = catalog
        self.database: CatalogRows = SqliteRows(catalog)

    # -- what an app does

    def put(self, source: str, content: bytes) -> str:
        """Put an original as apps should; returns its key."""
        self.storage.put(source, content)
        return source

    def send(self, event: Event) -> str:
        """XADD an event; returns its ID in the stream."""
        return self.send_raw({"event": json.dumps(event)})

    def send_raw(self, fields: Mapping[Any, Any], stream_id: str = "*") -> str:
        """XADD whatever one likes."""
        found = self.redis.xadd("media:uploads", dict(fields), id=stream_id)
        return cast(bytes, found).decode()

    def send_all(self, events: Iterable[Event]) -> None:
        """XADD many events in one go."""
        pipe = self.redis.pipeline(transaction=False)
        for event in events:
            pipe.xadd("media:uploads", {"event": json.dumps(event)})
        pipe.execute()

    def listen(self, enough: Callable[[list[Answer]], object], within: float = TIMEOUT_S) -> list[Answer]:
        """All messages so far, once they are `enough`; waits by XREAD BLOCK."""
        until = time.monotonic() + within
        while not enough(self.messages):
            left_ms = int((until - time.monotonic()) * 1000)
            assert left_ms > 0, self._too_few_messages()
            found: Any = self.redis.xread({"media:events": self._last}, block=min(left_ms, 5000), count=1000)
            for entry_id, fields in found[0][1] if found else ():
                self._last = entry_id.decode()
                self.messages.append(json.loads(fields[b"event"]))
        return self.messages

    def await_end_of(self, *sources: str, times: int = 1, within: float = TIMEOUT_S) -> dict[str, Answer]:
        """The last message about each of `sources`, once each has had at least `times`."""

        def about(source: str) -> list[Answer]:
            return [answer for answer in self.messages if answer["source"] == source]

        self.listen(lambda _: all(len(about(source)) >= times for source in sources), within)
        return {source: about(source)[-1] for source in sources}

    def _too_few_messages(self) -> str:
        logs = "\n".join(f"-- worker {worker.pid}\n{worker.text}" for worker in self.workers)
        return f"only {len(self.messages)} messages came: {self.messages[-5:]}\n{logs}"

    # -- what an operator does

    def env(self, **settings: str) -> dict[str, str]:
        """The environment of a worker here."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "MEDIA_ENV_FILE": "",
            "MEDIA_REDIS_URL": self.redis_url,
            **self.storage.settings,
            **self.database.settings,
            "MEDIA_LEASE": "1",
            "MEDIA_RECONCILE_INTERVAL": "1",
            "MEDIA_SETTLE": "0",
            "MEDIA_CPUS": "1",
            "MEDIA_LOG": "json",
            "MEDIA_SLOW_MS": "0",  # how fast the machine is now is no warning of a test's
            **self.settings,
            **settings,
        }

    def start(self, by: str = "media", *options: str, ready: bool = True, **settings: str) -> WorkerProcess:
        """Start a worker and wait until it says that it has started.

        It is forked from a process that has imported it, unless the environment changes the interpreter.
        """
        env = self.env(**settings)
        process: Started
        if by in _FORKED and "PYTHONPATH" not in env:
            process = LoggedProcess(fork_server.commands(), [*_FORKED[by], *options], env, self.home)
        else:
            command = [*_MORTAL, str(os.getpid()), *STARTS[by], *options]
            process = subprocess.Popen(
                command, env=env, cwd=self.home, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
        worker = WorkerProcess(process)
        self.workers.append(worker)
        if ready:
            worker.await_log("worker_started")
        return worker

    def freeze(self, worker: WorkerProcess) -> None:
        """SIGSTOP, but not while it writes: the lock of SQLite has no lease, and would be frozen too."""

        def freezes() -> bool:
            worker.signal(signal.SIGSTOP)
            eventually(lambda: processes.is_frozen(worker.pid))
            with contextlib.closing(
                sqlite3.connect(self.catalog, isolation_level=None, timeout=0.1)
            ) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    worker.signal(signal.SIGCONT)
                    return False
                other.execute("ROLLBACK")
            return True

        eventually(freezes)

    def run(self, by: str, *options: str, installed: bool = False, **settings: str) -> Ended:
        """Run a worker's command to its end: forked like one that is started, or as it is installed."""
        env = self.env(**settings)
        if installed:
            return run_installed([*STARTS[by], *options], env, self.home)
        return forked([*_FORKED[by], *options], env, self.home)

    def check(self, *, settled: bool = True) -> Findings:
        """What the one checker finds of stream, jobs, catalog, storage and processes."""
        pids = [worker.pid for worker in self.workers]
        return check(self.storage, self.database, self.redis, pids, settled)

    def close(self) -> None:
        """End every worker that still runs, however."""
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.signal(signal.SIGCONT)
            worker.kill()
        self.redis.close()
        self.database.close()


_databases = itertools.cycle(range(16))


def database_on(redis_url: str) -> str:
    """The next of the server's databases, so that tests with live workers do not meet."""
    return redis_url.rsplit("/", 1)[0] + f"/{next(_databases)}"


def eventually(holds: Callable[[], bool], within: float = TIMEOUT_S) -> None:
    """Wait for what nobody announces; what takes long is looked at less often, for others need the CPU."""
    began = time.monotonic()
    while not holds():
        waited = time.monotonic() - began
        assert waited < within, "it never came true"
        time.sleep(0.02 if waited < 1 else 0.05)
