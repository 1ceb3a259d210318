"""Health: a worker sends a heartbeat every few seconds, which says whether it is healthy."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import structlog

from pipelines.formats import MIB
from pipelines.outage import Outage
from pipelines.recipe import dropped_from_default
from pipelines.sandbox import Sandbox
from storage.catalog import Catalog
from storage.errors import StorageError
from worker.queue import Queue, QueueUnavailable, ServerInfo
from worker.settings import LEAST_MEMORY_MB, Settings

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
EXPIRY_S = 15.0  # a worker that is silent for so long is taken for dead
STALLED_AFTER_S = 20.0  # a due job waits that long though this worker has room for it
SHORT_FOR_S = 60.0  # that health is red after the kernel has killed for memory
INTAKE_STALLED_AFTER_S = 30.0  # beyond the lease, after which a dead worker's events are taken over
RIGHTS_EVERY_S = 60.0  # a right that is needed and missing is seen at once by what needs it
_LAG_INTERVAL_S = 0.5
LAG_S = 1.0  # of the event loop, worth a line in the log

OLDEST_REDIS = (6, 2)
LARGEST_VALUE = 8 * MIB
AHEAD_MS = 5 * 60 * 1000  # further ahead than this a stream's IDs say nothing of how long its events wait
CURE = (
    "Events are taken nevertheless, and in their order; only how long they wait cannot be told. If no clock "
    "was wrong, find who sends IDs of its own instead of `*`. `media stream reset` begins the stream anew."
)


@dataclass(frozen=True)
class Finding:
    """The result of one inspection: what was found, and what to do about it."""

    what: str
    level: Literal["ok", "warning", "error"]
    detail: str
    advice: str | None = None


def inspect_redis(info: ServerInfo) -> Sequence[Finding]:
    """What an operator should know of the Redis that says this of itself."""
    return [
        *_inspect_server(info),
        *_inspect_size(info.largest_bytes),
        _finding(
            "Redis stream",
            "its IDs go with the clock"
            if info.ahead_ms <= AHEAD_MS
            else f"its newest ID is {info.ahead_ms // 1000} s ahead of the clock, as all to come will be",
            info.ahead_ms <= AHEAD_MS,
            CURE,
            "warning",
        ),
    ]


def _inspect_server(info: ServerInfo) -> Sequence[Finding]:
    if info.version is None:
        detail = "not told: this user may not run INFO, which is fine for a worker"
        return [Finding("Redis version", "ok", detail)]
    version = tuple(int(part) for part in info.version.split(".")[:2])
    return [
        _finding(
            "Redis version",
            info.version,
            version >= OLDEST_REDIS,
            "Update to Redis 6.2 or newer, or Valkey.",
        ),
        _finding(
            "Redis role",
            info.role or "not told",
            info.role in ("master", None),
            "Point MEDIA_REDIS_URL at the primary: a replica takes no writes.",
        ),
        _finding(
            "Redis durability",
            "append-only file" if info.keeps_data else "no append-only file",
            info.keeps_data is not False,
            "Set `appendonly yes`, or events not yet taken are lost in a crash.",
            "warning",
        ),
        _finding(
            "Redis eviction",
            info.policy or "not told",
            info.policy in ("noeviction", None),
            "Set `maxmemory-policy noeviction`, or a full Redis forgets events.",
            "warning",
        ),
    ]


def _inspect_size(largest: int | None) -> Sequence[Finding]:
    if largest is None:
        return []
    detail = f"takes values of up to {largest // MIB} MiB"
    advice = "Set `proto-max-bulk-len 1mb`: a worker reads a whole entry before it can refuse it."
    return [_finding("Redis values", detail, largest <= LARGEST_VALUE, advice, "warning")]


def _finding(
    what: str, detail: str, ok: bool, advice: str, level: Literal["warning", "error"] = "error"
) -> Finding:
    return Finding(what, "ok", detail) if ok else Finding(what, level, detail, advice)


Check = Callable[[], Awaitable[str | None]]
"""Inspects one thing; returns what is wrong with it, or None."""


class Health:
    """The state of one worker, reported with its heartbeats: healthy for as long as all its checks pass.

    A check that raises StorageError has failed, too. While Redis is unreachable, no heartbeat is sent.
    """

    def __init__(self, instance: str, queue: Queue, checks: Mapping[str, Check]) -> None:
        self._instance = instance
        self._queue = queue
        self._checks = checks
        self._said: str | None = ""

    async def run(self) -> None:
        """Report at each interval, for ever."""
        while True:
            began = time.monotonic()
            await self.report()
            while time.monotonic() - began < INTERVAL_S:
                await _watch_the_loop()

    async def report(self) -> None:
        """Run the checks once and send a heartbeat; a change of state is one line in the log."""
        problem = await self._problem()
        if problem != self._said:
            self._said = problem
            if problem is None:
                log.info("healthy")
            else:
                log.error("unhealthy", reason=problem)

    async def _problem(self) -> str | None:
        try:
            problem = await self._found()
            await self._beat(problem or await self._queue.stream.waits(), healthy=problem is None)
        except QueueUnavailable as error:
            problem = error.explain()
            if error.refusal:
                await self._beat_if_possible(problem)
        return problem

    async def _beat_if_possible(self, problem: str) -> None:
        """Report to a Redis that refuses something: a full one takes no heartbeat, but deletes one."""
        with suppress(QueueUnavailable):
            try:
                await self._beat(problem, healthy=False)
            except QueueUnavailable:
                await self._queue.heartbeats.end(self._instance)

    async def _found(self) -> str | None:
        try:
            for check in self._checks.values():
                if problem := await check():
                    return problem
        except StorageError as error:
            return str(error)
        return None

    async def _beat(self, detail: str, *, healthy: bool) -> None:
        await self._queue.heartbeats.beat(self._instance, detail, healthy=healthy, expiry_s=EXPIRY_S)

    async def close(self) -> None:
        """Delete the heartbeat, so that the worker counts as stopped at once."""
        try:
            await self._queue.heartbeats.end(self._instance)
        except QueueUnavailable as error:
            log.warning("health_not_reported", reason=str(error))


def check_owner(queue: Queue) -> Check:
    """The stream is tied to this worker's catalog."""

    async def check() -> None:
        await queue.ownership.check()

    return check


def check_rights(queue: Queue, again_after_s: float = RIGHTS_EVERY_S) -> Check:
    """Redis does all that a worker asks of it. While it does, that is tried only so often: it is much."""
    next_try = float("-inf")

    async def check() -> str | None:
        nonlocal next_try
        if (began := time.monotonic()) < next_try:
            return None
        next_try = float("-inf")
        if refusal := await queue.server.refusal():
            return f"{refusal.by}: {refusal}"
        next_try = began + again_after_s
        return None

    return check


def check_catalog(catalog: Catalog) -> Check:
    """The catalog is the file that was opened, can be read and written, and no damage was met in it."""
    return catalog.database.problem


def check_decoders(outage: Outage, sandbox: Sandbox) -> Check:
    """Decoders can be started. Looked at again once they could not, so that it is green when that is over.

    While every place is taken by pictures, what is known is told: a check waits for none of them.
    """

    async def check() -> str | None:
        if outage.problem is not None and not outage.pause_ms and sandbox.has_slot:
            await outage.strikes()
        return outage.problem

    return check


def check_memory(sandbox: Sandbox) -> Check:
    """The kernel has not killed a decoder for lack of memory in the last minute."""

    async def check() -> str | None:
        return sandbox.was_short_of_memory(SHORT_FOR_S)

    return check


def check_jobs(queue: Queue, has_room: Callable[[], bool]) -> Check:
    """Jobs that are due start, as far as this worker has room for them."""

    async def check() -> str | None:
        waited = await queue.jobs.longest_due_s()
        if waited is None or waited <= STALLED_AFTER_S or not has_room():
            return None
        return f"a job has been due for {waited:.0f} s and does not start"

    return check


def check_intake(queue: Queue, backlog: int, stalled_after_s: float) -> Check:
    """The first event of the stream changes within `stalled_after_s`, unless `backlog` jobs pause the intake.

    How long it has waited says nothing: in a burst of many it may be an hour, with everybody at work.
    """
    first: str | None = None
    since = time.monotonic()

    async def check() -> str | None:
        nonlocal first, since
        now_first = await queue.stream.oldest_id()
        if now_first is None or now_first != first:
            first, since = now_first, time.monotonic()
        waited = time.monotonic() - since
        if waited <= stalled_after_s or await queue.jobs.untaken() >= backlog:
            return None
        return f"the event {first} has been the first to wait for {waited:.0f} s, and nobody takes it"

    return check


async def _watch_the_loop() -> None:
    """A short sleep, and a line in the log if it was long: what blocks the loop blocks the leases too."""
    began = time.monotonic()
    await asyncio.sleep(_LAG_INTERVAL_S)
    lag = time.monotonic() - began - _LAG_INTERVAL_S
    if lag > LAG_S:
        log.warning("event_loop_lagged", seconds=round(lag, 1))


def inspect_memory(settings: Settings) -> Finding:
    """Whether the memory that the settings speak of is there."""
    budget, wanted = settings.budget_mb, settings.memory_mb
    limit = settings.memory_limit
    limited, by = budget < wanted, limit.by if limit else ""
    if budget >= LEAST_MEMORY_MB:
        otherwise = f", or set MEDIA_MEMORY_MB={budget}."
    else:
        otherwise = "." if wanted == LEAST_MEMORY_MB else f"; {LEAST_MEMORY_MB} MiB are the least."
    return _finding(
        "Memory budget",
        f"{budget} MiB, {by}; MEDIA_MEMORY_MB is {wanted}" if limited else f"{budget} MiB",
        not limited,
        f"Raise {by} to {wanted} MiB{otherwise}",
        "warning",
    )


def inspect_recipes(settings: Settings) -> Finding:
    """Whether a `default` of one's own still makes what the built-in one does."""
    recipes = settings.recipe_book
    dropped = ", ".join(dropped_from_default(recipes))
    return _finding(
        "Recipes",
        f"the default in {settings.recipes} makes no {dropped}" if dropped else ", ".join(recipes),
        not dropped,
        'To keep them: extends = "default" in its table [default].',
        "warning",
    )


def warn(info: ServerInfo) -> None:
    """Log what is wrong with the Redis, by name."""
    warn_of(inspect_redis(info))


def warn_of(findings: Iterable[Finding]) -> None:
    """Log what is wrong of these, by name."""
    for found in findings:
        if found.level != "ok":
            log.warning(found.what.lower().replace(" ", "_"), found=found.detail, advice=found.advice)
