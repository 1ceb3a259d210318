"""One round of one contender: warmed up, frozen, its queue filled, let go, measured to the last picture."""

import math
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from bench import photos
from bench.contenders import VARIANTS, BenchError, Contender, MediaWorker, Place, Start
from bench.processes import Costs, Peak, busy_ms, bytes_written, cpu_ms, kernel_ms, pinned, tree
from scripts.redis_server import RedisServer

_TIMEOUT_S = 300.0
_PAUSE_S = 0.15  # between two single uploads


@dataclass(frozen=True)
class Plan:
    """What a round is made of."""

    cores: Collection[int]
    seconds: float
    picture_class: str = ""
    warm_up: int = 13
    singles: int = 0
    idle_s: float = 0.0
    passes: int | None = None
    work: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


@dataclass(frozen=True)
class Round:
    """What came of it. Times in ms, memory and files in bytes; CPU by process, for one picture."""

    title: str
    cores: int
    pictures: int
    seconds: float
    cpu: Mapping[str, float]
    peak: int
    peak_redis: int
    variant_bytes: int
    """Of all variants of a picture together."""
    disk_bytes: int
    others: float
    """CPU time that others spent on the same cores, as a part of these cores' time."""
    singles: Sequence[float] = ()
    idle: float = 0.0
    """CPU while there is nothing to do, as a part of one core."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """The worker's own measurements, ms for one picture."""
    picture_class: str = ""
    kernel: Mapping[str, float] = field(default_factory=dict)
    """How much of `cpu` the kernel has spent."""
    servers: Mapping[str, float] = field(default_factory=dict)
    """CPU of servers beside Redis, on cores of their own, for one picture; no part of `cpu`."""

    @property
    def tree_ms(self) -> float:
        """CPU of the contender's own processes, without Redis, for one picture."""
        return self.cpu["worker"] + self.cpu.get("worker: children", 0.0)

    @property
    def rate(self) -> float:
        return self.pictures / self.seconds

    @property
    def undisturbed(self) -> float:
        """Pictures for each second of these cores that others left; the same as `rate` on a quiet machine."""
        return self.pictures / (self.seconds * max(0.01, 1 - self.others))

    @property
    def cpu_ms(self) -> float:
        return sum(self.cpu.values())

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON's types."""
        return {**asdict(self), "rate": self.rate, "undisturbed": self.undisturbed, "cpu_ms": self.cpu_ms}


@contextmanager
def place(work: Path, server: RedisServer, cores: int) -> Iterator[Place]:
    """An empty folder, which stays as long as `work` does, and an emptied Redis.

    Where ext4 has no journal, a file that was deleted slows down whoever makes one in the next minutes.
    """
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    made = Place(Path(tempfile.mkdtemp(prefix="round-", dir=work)), server.url, cores)
    made.uploads.mkdir(parents=True)
    made.root.chmod(0o755)
    yield made


@contextmanager
def started(start: Start, where: Place, cores: Collection[int]) -> Iterator[Contender]:
    """The contender at work on those cores, ended at the end."""
    with pinned(cores):
        contender = start(where)
    try:
        yield contender
    finally:
        contender.stop()


def run(start: Start, pictures: Sequence[Path], server: RedisServer, plan: Plan) -> Round:
    """Measure one round. `pictures` must be on the file system of `plan.work`. Raises: BenchError."""
    with place(plan.work, server, len(plan.cores)) as where, started(start, where, plan.cores) as contender:
        warm = photos.linked(pictures[: plan.warm_up], 1, where.uploads / "warm")
        contender.supply(warm)
        contender.put(warm[:1])
        contender.await_done(1, _TIMEOUT_S)
        began = time.monotonic()
        contender.put(warm[1:])
        contender.await_done(len(warm), _TIMEOUT_S)
        rate = max(1, len(warm) - 1) / (time.monotonic() - began)
        passes = plan.passes or max(1, math.ceil(plan.seconds * rate * 1.03 / len(pictures)))
        files = photos.linked(pictures, passes, where.uploads / "round")
        return _measure(contender, files, len(warm), server, plan)


def _measure(
    contender: Contender, files: Sequence[Path], before: int, server: RedisServer, plan: Plan
) -> Round:
    root = contender.process.pid
    lines = len(contender.logged("batch")) if isinstance(contender, MediaWorker) else 0
    contender.supply(files)
    contender.freeze()
    contender.put(files)
    apart = Costs(contender.servers())
    costs, kernel = (Costs({"worker": root, "redis": server.pid}, spent) for spent in (cpu_ms, kernel_ms))
    busy, written = busy_ms(plan.cores), bytes_written(tree(root))
    with Peak(root).watched() as peak, Peak(server.pid, 1).watched() as peak_redis:
        began = time.perf_counter()
        contender.thaw()
        contender.await_done(before + len(files), _TIMEOUT_S)
        seconds = time.perf_counter() - began
        spent, within, beside = costs.so_far(), kernel.so_far(), apart.so_far()
        busy = busy_ms(plan.cores) - busy
    disk = bytes_written(tree(root)) - written
    count = len(files)
    made = contender.made()
    if len(made) < VARIANTS * (before + count):
        said = contender.log_path.read_text(errors="replace")[-2000:]
        raise BenchError(f"{contender.title}: {len(made)} files for {before + count} pictures.\n{said}")
    return Round(
        title=contender.title,
        cores=len(plan.cores),
        pictures=count,
        seconds=seconds,
        cpu={name: ms / count for name, ms in spent.items()},
        servers={name: ms / count for name, ms in beside.items()},
        peak=peak.bytes,
        peak_redis=peak_redis.bytes,
        variant_bytes=sum(made) // (before + count),
        disk_bytes=disk // count,
        others=max(0.0, busy - sum(spent.values())) / (seconds * 1000 * len(plan.cores)),
        stages=_stages(contender, lines, count),
        picture_class=plan.picture_class,
        kernel={name: ms / count for name, ms in within.items()},
        idle=_idle(root, server, plan.idle_s) if isinstance(contender, MediaWorker) else 0.0,
        singles=_singles(contender, files, before + count, plan.singles),
    )


def _stages(contender: Contender, skipped: int, count: int) -> Mapping[str, float]:
    if not isinstance(contender, MediaWorker):
        return {}
    until = time.monotonic() + 5
    while (lines := contender.logged("batch")[skipped:]) and time.monotonic() < until:
        if sum(line["uploads"] for line in lines) >= count:
            break
        time.sleep(0.05)
    names = {name for line in lines for name in line if name.endswith("_ms")}
    return {name[:-3]: sum(line.get(name, 0.0) for line in lines) / count for name in sorted(names)}


def _idle(root: int, server: RedisServer, seconds: float) -> float:
    if not seconds:
        return 0.0
    costs = Costs({"worker": root, "redis": server.pid})
    time.sleep(seconds)
    return sum(costs.so_far().values()) / (seconds * 1000)


def _singles(contender: Contender, files: Sequence[Path], before: int, count: int) -> Sequence[float]:
    """How long single uploads take from the put to the record, one at a time."""
    sources = files[: min(count, len(files))]
    folder = contender.place.uploads / "single"
    folder.mkdir()
    took = []
    for number, source in enumerate(sources):
        file = folder / f"{number:04}{source.suffix}"
        shutil.copyfile(source, file)
        time.sleep(_PAUSE_S)
        began = time.perf_counter()
        contender.supply([file])
        contender.put([file])
        contender.await_done(before + number + 1, _TIMEOUT_S, poll_s=0.001)
        took.append((time.perf_counter() - began) * 1000)
    return took
