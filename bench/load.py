"""Load tests: how long uploads take from XADD to ready: a steady load, a sudden, a growing, a long one."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import cycle
from math import log
from pathlib import Path
from typing import Any

from bench import photos
from bench.compare import say
from bench.contenders import BenchError, Contender, MediaWorker
from bench.processes import descriptors, memory, pinned, tree
from bench.rounds import place, started
from bench.statistics import percentile, slope
from scripts.redis_server import temporary_redis

_TIMEOUT_S = 120.0
_POLL_INTERVAL_S = 0.1
_SAMPLE_S = 2.0
_TOO_LATE_MS = 2000.0  # what an upload may take at most
_STEADY_AFTER = 0.25  # of a run; from then on memory should not grow any more


@dataclass(frozen=True)
class Profile:
    """A load: `burst` uploads at once, then `per_second`, or enough to keep `depth` waiting.

    With `doubling_s` there are twice as many a second each time that this time has passed.
    """

    seconds: float
    per_second: float | None = None
    burst: int = 0
    depth: int = 0
    doubling_s: float | None = None

    def sent_by(self, seconds: float) -> int | None:
        """How many uploads are to have been sent by then; None where the queue decides."""
        if self.per_second is None:
            return None
        if self.doubling_s is None:
            return int(seconds * self.per_second) + self.burst
        periods = 2 ** (seconds / self.doubling_s) - 1  # the integral of the rate
        return int(self.per_second * self.doubling_s / log(2) * periods) + self.burst

    def rate_at(self, seconds: float) -> float:
        """How many uploads a second are sent then, where there is a `per_second`."""
        rate = self.per_second or 0.0
        return rate if self.doubling_s is None else rate * 2 ** (seconds / self.doubling_s)


PROFILES: Mapping[str, Profile] = {
    "smoke": Profile(seconds=5, per_second=2),
    "load": Profile(seconds=60, per_second=5),
    "spike": Profile(seconds=20, per_second=1, burst=200),
    "stress": Profile(seconds=75, per_second=2, doubling_s=15),
    "soak": Profile(seconds=20 * 60, depth=40),
}


@dataclass
class Found:
    """Latencies in ms, and memory (bytes) and open descriptors over time (s).

    `sent_at` says of each latency when its upload was sent (s).
    """

    latencies: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    descriptors: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    sent_at: list[float] = field(default_factory=list)

    def kept_up_until(self, limit_ms: float) -> float | None:
        """When (s) the first upload was sent that took longer than that; None: none did."""
        return min(
            (at for at, ms in zip(self.sent_at, self.latencies, strict=True) if ms > limit_ms), default=None
        )


def run(profile: Profile, folder: Path | None, cores: Sequence[int]) -> Found:
    """Start a worker and put it under that load. Raises: BenchError."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        pictures = photos.copied(photos.find(folder), work / "photos")
        with pinned(cores):
            server = stack.enter_context(temporary_redis())
        where = stack.enter_context(place(work, server, len(cores)))
        worker = stack.enter_context(started(MediaWorker, where, cores))
        return _Run(worker, profile, pictures).go()


class _Run:
    def __init__(self, worker: Contender, profile: Profile, pictures: Sequence[Path]) -> None:
        self._worker = worker
        self._profile = profile
        self._pictures = cycle(pictures)
        self._sent: dict[str, int] = {}
        self._number = 0
        self._last = "0"
        self._found = Found()
        self._began_ms = 0

    def go(self) -> Found:
        began = time.monotonic()
        self._began_ms = int(time.time() * 1000)
        self._put(self._profile.burst)
        sampled = 0.0
        while (now := time.monotonic() - began) < self._profile.seconds:
            self._put(self._due(now))
            self._receive()
            if now - sampled > _SAMPLE_S:
                sampled = now
                self._sample(now)
            time.sleep(_POLL_INTERVAL_S)
        until = time.monotonic() + _TIMEOUT_S
        while self._sent:
            self._receive()
            if time.monotonic() > until:
                raise BenchError(f"{len(self._sent)} uploads were not ready in time")
            time.sleep(_POLL_INTERVAL_S)
        self._found.seconds = time.monotonic() - began
        return self._found

    def _due(self, now: float) -> int:
        due = self._profile.sent_by(now)
        return max(0, self._profile.depth - len(self._sent)) if due is None else due - self._number

    def _put(self, count: int) -> None:
        for _ in range(count):
            file = self._worker.place.uploads / f"{self._number // 1000}" / f"{self._number}.jpg"
            file.parent.mkdir(exist_ok=True)
            shutil.copyfile(next(self._pictures), file)
            source = str(file.relative_to(self._worker.place.root))
            found: Any = self._worker.redis.xadd("media:uploads", {"event": json.dumps({"source": source})})
            self._sent[source] = _ms(found)
            self._number += 1

    def _receive(self) -> None:
        for entry_id, message in self._messages():
            if message["type"] != "upload.ready":
                raise BenchError(f"an upload failed: {message}")
            sent = self._sent.pop(message["source"], None)
            if sent is not None:
                self._found.latencies.append(_ms(entry_id) - sent)
                self._found.sent_at.append((sent - self._began_ms) / 1000)
                (self._worker.place.root / message["source"]).unlink()
                for variant in message["variants"]:
                    (self._worker.place.root / variant["key"]).unlink(missing_ok=True)

    def _messages(self) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
        found: Any = self._worker.redis.xread({"media:events": self._last}, count=1000)
        for entry_id, fields in found[0][1] if found else ():
            self._last = entry_id.decode()
            yield entry_id, json.loads(fields[b"event"])

    def _sample(self, now: float) -> None:
        pids = tree(self._worker.process.pid)
        self._found.memory.append((now, memory(pids)))
        self._found.descriptors.append((now, descriptors(pids)))


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def summary(name: str, profile: Profile, found: Found) -> str:
    """The percentiles, the load that was too much, and how memory and descriptors develop once it runs."""
    p50, p95, p99 = (percentile(found.latencies, percent) for percent in (50, 95, 99))
    count = len(found.latencies)
    lines = [
        f"{name}: {count} uploads in {found.seconds:.0f} s, {count / found.seconds:.1f}/s",
        f"from XADD to ready: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms",
    ]
    steady_from = _STEADY_AFTER * found.seconds
    if profile.doubling_s is not None:
        lines.append(_breaking_point(profile, found))
    for what, points, unit in (
        ("memory", [(at, size / 1e6) for at, size in found.memory], " MB"),
        ("descriptors", found.descriptors, ""),
    ):
        late = [point for point in points if point[0] >= steady_from]
        if len(late) > 2:
            most = max(value for _, value in points)
            lines.append(f"{what}: at most {most:.0f}{unit}, slope {slope(late) * 3600:+.1f}{unit} an hour")
    return "\n".join(lines) + "\n"


def _breaking_point(profile: Profile, found: Found) -> str:
    ended = found.kept_up_until(_TOO_LATE_MS)
    if ended is None:
        return f"keeps up with {profile.rate_at(profile.seconds):.1f} uploads a second"
    rate, limit_s = profile.rate_at(ended), _TOO_LATE_MS / 1000
    return f"keeps up until {rate:.1f} uploads a second come: then one took more than {limit_s:.0f} s"


def main(name: str, folder: Path | None, cores: Sequence[int], seconds: float | None) -> str:
    """Run a profile by its name, and return its summary. Raises: BenchError."""
    profile = PROFILES[name]
    if seconds is not None:
        profile = replace(profile, seconds=seconds)
    say(f"{name} for {profile.seconds:.0f} s")
    return summary(name, profile, run(profile, folder, cores))
