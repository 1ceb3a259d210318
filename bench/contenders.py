"""The contenders: each is started, receives pictures through its own queue, and counts those finished."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import redis

from bench import install, processes
from bench.classes import AVATARS, SMALL

_BIN = Path(sys.executable).parent
_HERE = Path(__file__).parent
_START_S = 30.0
_STOP_S = 30.0
VARIANTS = 3


class BenchError(Exception):
    """A contender did not do what it is there for; the message says what."""


@dataclass(frozen=True)
class Place:
    """Where one contender works in one round: an empty folder, an empty Redis, and how many cores."""

    home: Path
    redis_url: str
    cores: int

    @property
    def root(self) -> Path:
        """Where the worker's storage is; the originals are below it for everybody."""
        return self.home / "media"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def out(self) -> Path:
        """Where the peers put their variants."""
        return self.home / "out"


class Contender(ABC):
    """One program in one round."""

    title: str
    """What people call it."""
    only: Collection[str] = ()
    """The classes of pictures that it is measured with; empty: all."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.redis: redis.Redis = redis.Redis.from_url(place.redis_url, socket_timeout=30)
        self.log_path = place.home / "log"
        self._log = self.log_path.open("wb")
        self.process: subprocess.Popen[bytes] = self._start()

    @classmethod
    def missing(cls) -> str | None:
        """Install what it needs; why it cannot take part, if it cannot."""
        return None

    @abstractmethod
    def _start(self) -> subprocess.Popen[bytes]: ...

    def supply(self, files: Sequence[Path]) -> int:
        """Bring the files to where it reads them; returns how many had to be brought."""
        return 0

    @abstractmethod
    def put(self, files: Sequence[Path]) -> None:
        """Put an event for each file on the queue; on return the queue has them all."""

    @abstractmethod
    def done(self) -> int:
        """How many pictures are finished and recorded, since the start."""

    def failed(self) -> int:
        """How many pictures it failed to process."""
        return 0

    def made(self) -> Sequence[int]:
        """The sizes of the variants, in bytes."""
        return _sizes(self.place.out.iterdir())

    def servers(self) -> Mapping[str, int]:
        """The processes of servers that it needs beside Redis, by name; what they cost is kept apart."""
        return {}

    def stop(self) -> None:
        """Terminate it; kill it if it does not end in time."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.redis.close()
        self._log.close()

    def await_done(self, count: int, within_s: float, poll_s: float = 0.01) -> None:
        """Wait until so many are finished. Raises: BenchError."""
        until = time.monotonic() + within_s
        while self.done() < count:
            if self.process.poll() is not None or self.failed() or time.monotonic() > until:
                said = self.log_path.read_text(errors="replace")[-2000:]
                raise BenchError(f"{self.title}: only {self.done()} of {count} were finished.\n{said}")
            time.sleep(poll_s)

    def freeze(self) -> None:
        """Stop all its processes, so that the queue can be filled before they begin."""
        for pid in processes.tree(self.process.pid):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all its processes run again."""
        for pid in processes.tree(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _spawn(self, *command: str | Path, **env: str) -> subprocess.Popen[bytes]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.place.home), **env}
        return subprocess.Popen(  # noqa: S603
            list(map(str, command)),
            env=environment,
            cwd=self.place.home,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
        )


class MediaWorker(Contender):
    """This program: events on a stream, messages when the variants are there."""

    title = "media-worker"
    settings: Mapping[str, str] = {}
    """For comparing one setting with another."""

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._spawn(
            _BIN / "media",
            "worker",
            MEDIA_REDIS_URL=self.place.redis_url,
            MEDIA_CPUS=str(self.place.cores),
            MEDIA_LOG="json",
            MEDIA_ADOPT="off",
            **{**self.stores(), **self.settings},
        )
        until = time.monotonic() + _START_S
        while not self.logged("worker_started"):
            if process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"the worker did not start:\n{self.log_path.read_text()}")
            time.sleep(0.02)
        return process

    def stores(self) -> Mapping[str, str]:
        """The settings that name its catalog and its storage."""
        return {
            "MEDIA_STORAGE_URL": f"file:{self.place.root}",
            "MEDIA_CATALOG_URL": f"sqlite+aiosqlite:///{self.place.home}/catalog.db",
        }

    def put(self, files: Sequence[Path]) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for file in files:
                event = {"source": str(file.relative_to(self.place.root)), **self.named(file)}
                pipe.xadd("media:uploads", {"event": json.dumps(event)})
            pipe.execute()

    def named(self, _file: Path) -> Mapping[str, str]:
        """What else the event of a file says."""
        return {}

    def done(self) -> int:
        return int(self.redis.xlen("media:events"))  # type: ignore[arg-type]

    def made(self) -> Sequence[int]:
        return _sizes((self.place.root / "variants").rglob("*"))

    def logged(self, event: str) -> Sequence[Mapping[str, Any]]:
        """The lines of its log about one kind of event."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]


class Configured(MediaWorker):
    """This program with some settings of its own."""

    def __init__(self, place: Place, settings: Mapping[str, str]) -> None:
        self.settings = settings
        super().__init__(place)


class OwnersApart(MediaWorker):
    """This program where no two uploads are of the same owner: none shares a decoder with another."""

    title = "media-worker, an owner each"
    only = (SMALL, AVATARS)

    def named(self, file: Path) -> Mapping[str, str]:
        return {"owner": f"{file.parent.name}-{file.stem}"}


class Floor(Contender):
    """The bare libvips loop; no queue, so its list of files stands for one."""

    title = "libvips loop"

    def _start(self) -> subprocess.Popen[bytes]:
        self._count = 0
        self.place.out.mkdir()
        environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(_HERE / "peers" / "floor.py"), str(self.place.cores), str(self.place.out)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._reader = threading.Thread(target=self._listen, args=(process,), daemon=True)
        self._reader.start()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        for _ in process.stdout or ():
            self._count += 1

    def put(self, files: Sequence[Path]) -> None:
        _say(self.process, _list_of(files, self.place.home))

    def done(self) -> int:
        return self._count

    def stop(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        super().stop()


class _Peer(Contender):
    """A queue of another ecosystem, filled by a helper in its own language."""

    def _start_helper(self, *command: str | Path, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603
            list(map(str, command)),
            env={"PATH": os.environ["PATH"], **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    helper: subprocess.Popen[bytes]

    def put(self, files: Sequence[Path]) -> None:
        _say(self.helper, _list_of(files, self.place.home))
        if self.helper.stdout is None or not self.helper.stdout.readline():
            raise BenchError(f"{self.title}: nothing was put.\n{self.log_path.read_text()[-2000:]}")

    def stop(self) -> None:
        if self.helper.stdin:
            self.helper.stdin.close()
        try:
            self.helper.wait(5)
        except subprocess.TimeoutExpired:
            self.helper.kill()
            self.helper.wait()
        super().stop()


class _BullMQ(_Peer):
    style = ""

    @classmethod
    def missing(cls) -> str | None:
        return install.bullmq()

    def _start(self) -> subprocess.Popen[bytes]:
        self.place.out.mkdir()
        modules, url = install.NODE / "node_modules", self.place.redis_url
        self.helper = self._start_helper("node", _HERE / "peers" / "bullmq_put.mjs", modules, url)
        at_once = str(2 * self.place.cores)  # one more than it can decode, so that it never waits for Redis
        script = _HERE / "peers" / "bullmq_worker.mjs"
        return self._spawn("node", script, modules, url, self.style, at_once, self.place.out)

    def done(self) -> int:
        return int(self.redis.zcard("bull:media:completed"))  # type: ignore[arg-type]

    def failed(self) -> int:
        return int(self.redis.zcard("bull:media:failed"))  # type: ignore[arg-type]


class BullMQClone(_BullMQ):
    """As sharp's manual shows it."""

    title = "BullMQ + sharp, clone()"
    style = "clone"


class BullMQChained(_BullMQ):
    """Tuned by hand: each variant from the one before."""

    title = "BullMQ + sharp, chained"
    style = "chained"


class Celery(_Peer):
    """Celery with Pillow, results in Redis too."""

    title = "Celery + Pillow"

    @classmethod
    def missing(cls) -> str | None:
        return install.celery()

    def _start(self) -> subprocess.Popen[bytes]:
        self.place.out.mkdir()
        results = urlsplit(self.place.redis_url)._replace(path="/1").geturl()
        self.results: redis.Redis = redis.Redis.from_url(results, socket_timeout=30)
        env = {
            "BENCH_BROKER": self.place.redis_url,
            "BENCH_RESULTS": results,
            "BENCH_OUT": str(self.place.out),
            "PYTHONPATH": str(_HERE / "peers"),
        }
        tasks = _HERE / "peers" / "celery_tasks.py"
        self.helper = self._start_helper(install.CELERY / "bin" / "python", tasks, **env)
        options = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        celery = install.CELERY / "bin" / "celery"
        app = ("--app", "celery_tasks", "worker")
        return self._spawn(celery, *app, "--concurrency", str(self.place.cores), *options, **env)

    def done(self) -> int:
        return int(self.results.dbsize())  # type: ignore[arg-type]

    def stop(self) -> None:
        super().stop()
        self.results.close()


ALL: Sequence[type[Contender]] = (MediaWorker, Floor, BullMQClone, BullMQChained, Celery, OwnersApart)


Start = Callable[[Place], Contender]
"""Whatever starts a contender at a place, such as its class."""


def _sizes(paths: Iterable[Path]) -> Sequence[int]:
    return [path.stat().st_size for path in paths if path.is_file()]


def _list_of(files: Sequence[Path], home: Path) -> str:
    path = home / f"list-{uuid4().hex}"
    path.write_text("\n".join(map(str, files)) + "\n")
    return str(path)


def _say(process: subprocess.Popen[bytes], line: str) -> None:
    if process.stdin is None:
        raise BenchError("it does not listen")
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()
