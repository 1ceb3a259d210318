"""Health: a worker sends a heartbeat every few seconds, which says whether it is healthy."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from pipelines.errors import DecoderUnavailable
from pipelines.outage import Outage
from pipelines.sandbox import Sandbox
from storage.errors import CatalogUnavailable, StorageError
from storage.tasks import together
from worker.queue import Queue, QueueUnavailable, StreamMismatch
from worker.queue.heartbeats import WorkerInfo
from worker.status import CheckResult, Status, Word

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
EXPIRY_S = 15.0  # a worker that is silent for so long is taken for dead
OVERDUE_AFTER_S = 20.0  # a job that is due starts within this time where a worker has room for it
SHORT_FOR_S = 60.0  # a worker counts as unhealthy after the kernel has killed a decoder for memory
INTAKE_STALLED_AFTER_S = 30.0  # beyond the lease, after which a dead worker's events are taken over
RIGHTS_EVERY_S = 60.0  # whatever needs a missing right fails at once
REDIS, OWNER = "redis", "owner"
NO_RESULTS: Mapping[str, CheckResult] = {}
_NOT_ASKED = CheckResult(None, "Redis could not be asked")

Check = Callable[[], Awaitable[str | None]]
"""Inspects one thing; returns what is wrong with it, or None."""


class Health:
    """The state of one worker, reported with its heartbeats: healthy for as long as all its checks pass.

    A check that raises StorageError has failed, too. While Redis is unreachable, no heartbeat is sent.
    """

    def __init__(
        self,
        instance: str,
        queue: Queue,
        checks: Mapping[str, Check],
        stopping: asyncio.Event,
        status: Status | None = None,
        measure: Callable[[], WorkerInfo] = WorkerInfo,
    ) -> None:
        self._instance = instance
        self._status = status or Status()
        self._measure = measure
        self._state: Word = "starting"
        self._since = time.monotonic()
        self._queue = queue
        self._checks = checks
        self._stopping = stopping
        self._reported: str | None = ""

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            await self.report()
            await asyncio.sleep(INTERVAL_S - (time.monotonic() - began))

    async def announce(self) -> None:
        """Send the first heartbeat, so that nobody takes this worker for dead. Raises: QueueUnavailable."""
        await self._beat("the worker is starting", "starting")

    async def report(self) -> None:
        """Run the checks once and send a heartbeat; a change of state is one line in the log.

        A worker that is to stop lives, and gets no more jobs.
        """
        if self._stopping.is_set():
            with suppress(QueueUnavailable):
                await self._beat("the worker is stopping", "stopping")
            return
        problem = await self._problem()
        if problem != self._reported:
            self._reported = problem
            if problem is None:
                log.info("healthy")
            else:
                log.error("unhealthy", reason=problem)

    async def _problem(self) -> str | None:
        results, unavailable = await self._results()
        results = {REDIS: CheckResult(True), **results}
        problem = next((result.reason for result in results.values() if result.ok is False), None)
        try:
            if unavailable is not None:
                raise unavailable
            if problem is None:
                works: Word = "degraded" if self._status.degraded else "ok"
                await self._beat(await self._queue.waits(), works)
            else:
                await self._beat(problem, "unhealthy", results)
        except QueueUnavailable as error:
            problem = error.explain()
            results[check_of(error)] = CheckResult(False, problem)
            if error.refusal:
                await self._beat_if_possible(problem, results)
        self._status.checked(results)
        return problem

    async def _results(self) -> tuple[dict[str, CheckResult], QueueUnavailable | None]:
        """The result of each check, and why Redis could not be asked. All run at once: one may hang."""
        found = await together(*map(_run, self._checks.values()))
        unavailable = next((each for each in found if isinstance(each, QueueUnavailable)), None)
        results = {
            name: each if isinstance(each, CheckResult) else _NOT_ASKED
            for name, each in zip(self._checks, found, strict=True)
        }
        return results, unavailable

    async def _beat_if_possible(self, problem: str, results: Mapping[str, CheckResult]) -> None:
        """Report to a Redis that refuses something: a full one takes no heartbeat, but deletes one."""
        with suppress(QueueUnavailable):
            try:
                await self._beat(problem, "unhealthy", results)
            except QueueUnavailable:
                await self._queue.heartbeats.end(self._instance)

    async def _beat(self, detail: str, state: Word, results: Mapping[str, CheckResult] = NO_RESULTS) -> None:
        if state != self._state:
            self._state, self._since = state, time.monotonic()
        failing = [f"{name}: {result.reason}" for name, result in results.items() if result.ok is False]
        told = {"state": state, "state_s": int(time.monotonic() - self._since), "failing": tuple(failing)}
        await self._queue.heartbeats.beat(
            self._instance,
            detail,
            healthy=state in ("ok", "degraded"),
            expiry_s=EXPIRY_S,
            degraded=[f"{sign}: {reason}" for sign, reason in self._status.degraded.items()],
            info=self._measure().model_copy(update=told),
        )

    async def close(self) -> None:
        """Delete the heartbeat, so that the worker counts as stopped at once."""
        try:
            await self._queue.heartbeats.end(self._instance)
        except QueueUnavailable as error:
            log.warning("health_not_reported", reason=str(error))


def check_of(error: Exception) -> str:
    """The name of the check that is about what `error` says."""
    match error:
        case StreamMismatch():
            return OWNER
        case QueueUnavailable():
            return REDIS
        case CatalogUnavailable():
            return "catalog"
        case DecoderUnavailable():
            return "decoders"
    return "storage"


async def _run(check: Check) -> CheckResult | QueueUnavailable:
    try:
        problem = await check()
    except StorageError as error:
        problem = str(error)
    except QueueUnavailable as error:
        return error
    return CheckResult(problem is None, problem)


def check_rights(queue: Queue, again_after_s: float = RIGHTS_EVERY_S) -> Check:
    """Redis permits all commands of a worker; a success counts for `again_after_s`: a check costs much."""
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


def check_decoders(outage: Outage, sandbox: Sandbox) -> Check:
    """Decoders can be started; after a failure this is tried again, so that the worker recovers by itself.

    While pictures take every slot, the last result is returned: a check waits for no picture.
    """

    async def check() -> str | None:
        if outage.problem is not None and not outage.pause_ms and sandbox.admission.slots.are_free:
            await outage.confirm()
        return outage.problem

    return check


def check_memory(sandbox: Sandbox) -> Check:
    """The kernel has not killed a decoder for lack of memory in the last minute."""

    async def check() -> str | None:
        return sandbox.pool.was_short_of_memory(SHORT_FOR_S)

    return check


def check_jobs(queue: Queue, has_room: Callable[[], bool]) -> Check:
    """Jobs that are due start, as far as this worker has room for them.

    How long one has waited is what was seen here: since when it is due is by the clock of whoever queued it.
    """
    seen: Mapping[tuple[bytes, float], float] = {}

    async def check() -> str | None:
        nonlocal seen
        jobs, now = await queue.jobs.unbegun() if has_room() else (), time.monotonic()
        seen = {job: seen.get(job, now) for job in jobs}
        waited = now - min(seen.values(), default=now)
        if waited <= OVERDUE_AFTER_S:
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
