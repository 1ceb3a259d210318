"""Check-ups on demand: one at a time for all who ask, kept for a while, and nobody waits for ever.

They run in a thread with an event loop of its own: what they look at may hang, and then holds up nobody else.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from storage.threads import in_thread_within
from worker.doctor.served import topics
from worker.findings import Finding
from worker.settings import Settings

log = structlog.get_logger(__name__)

KEPT_S = 30.0
AGAIN_S = 3.0  # for whoever asks for new findings
PATIENCE_S = 8.0  # with all checks together
_TO_END_S = 0.5  # for checks that are cancelled, of which one may block its thread

_HANGS = "It hangs, or is very busy; until it answers nothing is checked again."

Topics = Callable[[Settings], Mapping[str, AsyncIterator[Finding]]]
"""What is checked, by its name; called in the loop that asks for the findings."""


@dataclass(frozen=True)
class Checkup:
    """What was found, by topic, and when that was (by `time.monotonic`)."""

    findings: Sequence[Finding]
    ended: float


class _Round:
    """The checks of one check-up, in a thread of their own."""

    def __init__(self, settings: Settings, topics: Topics, patience_s: float) -> None:
        self._settings = settings
        self._topics = topics
        self._patience_s = patience_s
        self._found: dict[str, list[Finding]] = {}
        self._open: set[str] = set()
        self._began = time.monotonic()
        self.is_running = True

    def run(self) -> None:
        """Make all checks at the same time."""
        try:
            asyncio.run(self._check_all())
        finally:
            self.is_running = False

    async def _check_all(self) -> None:
        checks = self._topics(self._settings)
        self._found = {name: [] for name in checks}
        self._open = set(checks)
        await asyncio.wait(
            [asyncio.create_task(self._check(name, found)) for name, found in checks.items()],
            timeout=self._patience_s,
        )

    async def _check(self, name: str, findings: AsyncIterator[Finding]) -> None:
        try:
            async for finding in findings:
                self._found[name].append(finding)
        except Exception as error:
            log.exception("checkup_crashed", topic=name)  # a bug, which need not hide what else was found
            self._found[name].append(Finding(name, "error", f"the check failed: {type(error).__name__}"))
        self._open.discard(name)

    def findings(self) -> Sequence[Finding]:
        """What was found so far, by topic, and what has not answered yet."""
        waited = time.monotonic() - self._began
        found: list[Finding] = []
        for name, of_topic in self._found.items():
            found += of_topic
            if name in self._open:
                found.append(Finding(name, "error", f"no answer for {waited:.0f} s", _HANGS))
        return found


class Checkups:
    """The check-ups of one server."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics = topics,
        kept_s: float = KEPT_S,
        again_s: float = AGAIN_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._kept_s = kept_s
        self._again_s = again_s
        self._patience_s = patience_s
        self._round: _Round | None = None
        self._running: asyncio.Task[Checkup] | None = None
        self._last: Checkup | None = None

    @property
    def last(self) -> Checkup | None:
        """The last one, however old; None: there was none."""
        return self._last

    async def latest(self, *, again: bool = False, since: float = float("-inf")) -> Checkup:
        """A recent one, and a more recent one for whoever asks for it again; it ended after that moment."""
        last, kept_s = self._last, self._again_s if again else self._kept_s
        if last is not None and last.ended >= since and time.monotonic() - last.ended < kept_s:
            return last
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check(), name="checkup")
        return await asyncio.shield(self._running)  # others may wait for it

    async def _check(self) -> Checkup:
        if self._round is not None and self._round.is_running and self._last is not None:
            self._last = replace(self._last, findings=self._round.findings())  # something still hangs
            return self._last
        self._round = _Round(self._settings, self._topics, self._patience_s)
        with suppress(TimeoutError):
            await in_thread_within(self._patience_s + _TO_END_S, self._round.run)
        self._last = Checkup(self._round.findings(), time.monotonic())
        return self._last
