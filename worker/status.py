"""The status of a worker process: what probes are answered, also while the event loop is blocked."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

log = structlog.get_logger(__name__)

CHECKS = ("redis", "catalog", "storage", "decoders", "rights", "owner", "memory", "intake", "jobs")
SWEEP = "sweep"
LOOP = "loop"
SIGNS = ("memory", "queue", SWEEP, "backup", "catalog_log", "space", "webhooks")
BLOCKED_S = 30.0  # without a tick of the event loop
STALE_S = 60.0  # after which the last results of checks say nothing: one of them hangs
_TICK_S = 0.5
LAG_S = 1.0  # of the event loop, worth a line in the log

Word = Literal["ok", "degraded", "unhealthy", "starting", "stopping"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `ok` is None where it could not be made."""

    ok: bool | None
    reason: str | None = None


@dataclass(frozen=True)
class Readiness:
    """Whether a worker takes work, and what is wrong with it: what a readiness probe is answered."""

    status: Word
    reason: str | None
    checks: Mapping[str, CheckResult]
    degraded: Mapping[str, str]

    @property
    def is_ready(self) -> bool:
        return self.status in ("ok", "degraded")

    @property
    def document(self) -> Mapping[str, Any]:
        """All of it as JSON."""
        return {
            "status": self.status,
            "reason": self.reason,
            "checks": {name: vars(result) for name, result in self.checks.items()},
            "degraded": self.degraded,
        }


@dataclass(frozen=True)
class _Checked:
    """The results of the last checks, and when they came."""

    at: float
    results: Mapping[str, CheckResult] = field(default_factory=dict)
    started: bool = False


class Status:
    """What one worker process knows of itself. The event loop writes, any thread may read.

    Each attribute is exchanged as a whole, so a reader needs no lock.
    """

    def __init__(
        self, is_stopping: Callable[[], bool] = lambda: False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._is_stopping = is_stopping
        self._clock = clock
        self._began = self._ticked = clock()
        self._checked = _Checked(clock())
        self._worked = False
        self._degraded: Mapping[str, str] = {}

    # -- what the event loop says

    def tick(self) -> float:
        """Note that the event loop goes on; returns the seconds since it last did."""
        before, self._ticked = self._ticked, self._clock()
        return self._ticked - before

    async def keep_ticking(self, on_lag: Callable[[float], object] = lambda _seconds: None) -> None:
        """Tick until cancelled, and pass on by how many seconds each tick came late.

        What blocks the loop blocks the leases too, so a long one is a line in the log.
        """
        self.tick()
        while True:
            await asyncio.sleep(_TICK_S)
            lag = max(0.0, self.tick() - _TICK_S)
            on_lag(lag)
            if lag > LAG_S:
                log.warning("event_loop_lagged", seconds=round(lag, 1))

    def waits_for(self, check: str, reason: str) -> None:
        """The worker has not started (again): it waits for what that check is about; others are not made."""
        self._checked = _Checked(self._clock(), {check: CheckResult(False, reason)})
        self._degraded = {}

    def checked(self, results: Mapping[str, CheckResult]) -> None:
        """The worker is at work, and its checks had these results."""
        self._checked = _Checked(self._clock(), dict(results), started=True)
        self._worked = True

    def found_degraded(self, found: Mapping[str, str]) -> None:
        """What needs somebody before it stops the worker, with its reason."""
        self._degraded = dict(found)

    # -- what any thread asks

    @property
    def up_s(self) -> float:
        """Seconds since the process began, whatever restarts it has seen."""
        return self._clock() - self._began

    @property
    def results(self) -> Mapping[str, CheckResult]:
        """The last result of each check."""
        return self._checked.results

    @property
    def degraded(self) -> Mapping[str, str]:
        """What needs somebody before it stops the worker, with its reason."""
        return self._degraded

    @property
    def health(self) -> Mapping[str, float]:
        """1 for each check that is well and 0 for each that is ill; nothing where nobody knows.

        `loop` is ill while the worker hangs; what was well before may then be so no more.
        """
        checked = self._checked
        found = {name: float(result.ok) for name, result in checked.results.items() if result.ok is not None}
        if checked.started:
            found[SWEEP] = float(SWEEP not in self.degraded)
        if self._hangs():
            return {name: 0.0 for name, value in found.items() if not value} | {LOOP: 0.0}
        return found | {LOOP: 1.0}

    @property
    def signs(self) -> Mapping[str, float]:
        """1 for each sign that something degrades, and 0 for each other; nothing where nobody knows."""
        degraded, hangs = self._degraded, self._hangs()
        return {sign: float(sign in degraded) for sign in SIGNS if sign in degraded or not hangs}

    def blocked(self) -> str | None:
        """Why the process counts as hung; None: it lives."""
        silent = self._clock() - self._ticked
        return f"the event loop has been blocked for {silent:.0f} s" if silent > BLOCKED_S else None

    def _hangs(self) -> bool:
        """Whether the loop is blocked, or the checks of a worker that is not about to stop have not ended."""
        overdue = self._overdue(self._checked) and not self._is_stopping()
        return bool(self.blocked() or overdue)

    def _overdue(self, checked: _Checked) -> str | None:
        """Why the results of a worker that is at work say nothing any more; None: they are new."""
        old = self._clock() - checked.at
        return f"the checks have not ended for {old:.0f} s" if checked.started and old > STALE_S else None

    def readiness(self) -> Readiness:
        """Whether the worker takes work, and what is wrong."""
        checked, degraded = self._checked, self._degraded
        word, reason = self._judge(checked, degraded)
        return Readiness(word, reason, checked.results, degraded)

    def _judge(self, checked: _Checked, degraded: Mapping[str, str]) -> tuple[Word, str | None]:
        ill = (f"{name}: {result.reason}" for name, result in checked.results.items() if result.ok is False)
        problem = next(ill, None) or self._overdue(checked)
        if blocked := self.blocked():
            return "unhealthy", blocked
        if self._is_stopping():
            return "stopping", "the worker is stopping"
        if not checked.started:
            word: Word = "unhealthy" if self._worked else "starting"
            return word, problem or "the worker is starting"
        if problem is not None:
            return "unhealthy", problem
        if degraded:
            return "degraded", "; ".join(f"{name}: {reason}" for name, reason in degraded.items())
        return "ok", None
