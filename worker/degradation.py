"""What degrades a worker that still works: somebody should look at it before it stops the worker."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from storage.blobs import Room
from storage.catalog.backup_notes import BackupChecked, BackupFailed, BackupMade, BackupNotes
from storage.catalog.database import Database
from storage.catalog.parking import Parking
from storage.catalog.sweep_records import SweepRecords
from storage.catalog.webhooks import Webhooks
from storage.errors import StorageError
from worker.crontab import next_after
from worker.health import Check
from worker.queue import Queue, QueueUnavailable
from worker.status import Status

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
CATALOG_EVERY_S = 15.0
MUCH = 0.85  # of the memory budget, or of a file system
MUCH_MEMORY_FOR_S = 15.0  # a large picture may take the whole budget for a moment
WAITS_TOO_LONG_S = 60
WEBHOOK_WAITS_MS = 900_000
BACKUP_LATE = timedelta(hours=25)  # hourly copies are old after 26 hours
_STATM = "/proc/self/statm"
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Degradation:
    """Looks at each sign every few seconds; one that cannot be looked at now is none.

    What keeps it from being looked at makes a check of `Health` ill.
    """

    def __init__(self, signs: Mapping[str, Check], status: Status) -> None:
        self._signs = signs
        self._status = status

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Look at every sign once; one that begins, or ends, is one line in the log."""
        before, found = self._status.degraded, await self._found()
        for sign in found.keys() - before.keys():
            log.warning("degraded", sign=sign, reason=found[sign])
        for sign in before.keys() - found.keys():
            log.info("no_longer_degraded", sign=sign)
        self._status.found_degraded(found)

    async def _found(self) -> Mapping[str, str]:
        found = {}
        for sign, check in self._signs.items():
            try:
                if reason := await check():
                    found[sign] = reason
            except (StorageError, QueueUnavailable):
                pass
        return found


def now_and_then(check: Check, every_s: float = CATALOG_EVERY_S) -> Check:
    """The same, looked at every so many seconds; between them the answer is the last one."""
    next_look, last = float("-inf"), None

    async def look() -> str | None:
        nonlocal next_look, last
        if (now := time.monotonic()) >= next_look:
            next_look, last = now + every_s, await check()
        return last

    return look


def watch_memory(
    measure: Callable[[], int],
    budget: int,
    lasting_s: float = MUCH_MEMORY_FOR_S,
    clock: Callable[[], float] = time.monotonic,
) -> Check:
    """All processes of the worker take over 85 % of the budget, and have done so for some time."""
    since: float | None = None

    async def look() -> str | None:
        nonlocal since
        used, now = measure(), clock()
        since = (now if since is None else since) if used > MUCH * budget else None
        if since is None or now - since < lasting_s:
            return None
        return f"{used / budget:.0%} of the budget are taken"

    return look


def resident() -> int:
    """Bytes of memory that this process has."""
    with open(_STATM, "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def watch_queue(queue: Queue, parking: Parking) -> Check:
    """The oldest event has waited for over a minute, in the stream or for its owner's turn."""

    async def look() -> str | None:
        parked_ms = 0
        with suppress(StorageError):  # the stream says what it can
            parked_ms = await parking.oldest_ms()
        return long_wait(max(await queue.oldest_age_s() or 0, parked_ms // 1000))

    return look


def long_wait(oldest_s: int | None) -> str | None:
    """What to say of an oldest event that has waited for so long; None: nothing."""
    if oldest_s is None or oldest_s <= WAITS_TOO_LONG_S:
        return None
    return f"the oldest event has waited for {oldest_s} s"


def watch_sweep(sweeps: SweepRecords) -> Check:
    """The last sweep was stopped."""

    async def look() -> str | None:
        last = await sweeps.last()
        return f"the last one was stopped: {last.stopped}" if last is not None and last.stopped else None

    return look


def watch_backup(notes: BackupNotes, crontab: str, now_ms: Callable[[], int]) -> Check:
    """The last try failed, the last check found something, or the newest copy is old by the crontab line."""

    async def look() -> str | None:
        made, now = await notes.last(), now_ms()
        since_ms = await _expected(notes, now) if made is None else now
        return await backup_problem(notes, made, crontab, now, since_ms)

    return look


async def backup_problem(
    notes: BackupNotes, made: BackupMade | None, crontab: str, now_ms: int, since_ms: int
) -> str | None:
    """What to say of the copies, of which `made` is the newest; None: nothing. They are due since then."""
    failed, checked = failed_backup(await notes.failed()), bad_copy(await notes.checked())
    return failed or checked or old_backup(made, crontab, now_ms, since_ms)


async def _expected(notes: BackupNotes, now_ms: int) -> int:
    """Since when copies are expected: from before this worker's start, for workers may start every day."""
    since_ms = await notes.expected_ms()
    return await notes.expect(now_ms) if since_ms is None or since_ms > now_ms else since_ms


def failed_backup(failed: BackupFailed | None) -> str | None:
    """What to say of the last try that made no copy; None: nothing."""
    return None if failed is None else f"the last one failed: {failed.reason}"


def bad_copy(checked: BackupChecked | None) -> str | None:
    """What to say of the last check of a copy; None: nothing."""
    if checked is None or checked.problem is None:
        return None
    return f"the copy {checked.name} is bad: {checked.problem}"


def old_backup(made: BackupMade | None, crontab: str, now_ms: int, since_ms: int) -> str | None:
    """What to say where the newest copy is older than it should be; where there is none, none since that."""
    last_ms = since_ms if made is None else made.time_ms
    due = next_after(crontab, datetime.fromtimestamp(last_ms / 1000))
    now = datetime.fromtimestamp(now_ms / 1000)
    if now < due + BACKUP_LATE:
        return None
    hours = (now_ms - last_ms) // 3_600_000
    if made is None:
        return f"none has been made in {hours} hours, although MEDIA_BACKUP is set"
    return f"the newest copy is {hours} hours old"


def watch_webhooks(webhooks: Sequence[Webhooks]) -> Check:
    """An endpoint of webhooks wants no more messages, or one has waited for a quarter of an hour."""

    async def look() -> str | None:
        found = [(each.endpoint, await _waits_too_long(each)) for each in webhooks]
        reasons = [(name, reason) for name, reason in found if reason]
        if len(webhooks) == 1:
            return next((reason for _, reason in reasons), None)
        return "; ".join(f"{name}: {reason}" for name, reason in reasons) or None

    return look


async def _waits_too_long(webhooks: Webhooks) -> str | None:
    state = await webhooks.state()
    if state is not None and state.word == "gone":
        return f"the endpoint wants no more messages: {state.problem}"
    if (oldest_ms := await webhooks.oldest_ms()) <= WEBHOOK_WAITS_MS:
        return None
    reason = f": {state.problem}" if state is not None and state.problem else ""
    return f"the oldest message has waited for {oldest_ms // 1000} s{reason}"


def watch_log(database: Database) -> Check:
    """The log beside the catalog's file is large."""

    async def look() -> str | None:
        return database.find_large_log()

    return look


def watch_space(blobs: Room) -> Check:
    """The storage is over 85 % full."""

    async def look() -> str | None:
        space = await blobs.space()
        return None if space is None else full(space.used_bytes, space.free_bytes)

    return look


def full(used_bytes: int, free_bytes: int) -> str | None:
    """What to say of a file system with so much room, counted as `df` does; None: nothing."""
    if used_bytes <= MUCH * (used_bytes + free_bytes):
        return None
    return f"{used_bytes / (used_bytes + free_bytes):.0%} of its file system are taken"
