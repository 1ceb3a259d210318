"""Originals that are missing, or may still be written: polled until they settle, without any job."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from storage.blobs import BlobInfo, Existence, Stat
from storage.catalog.records import Claim

POLL_INTERVAL_S = 0.5
SETTLED_S = 1.0  # a file that has not changed for so long is tried again
MOST = 10_000  # uploads; what is beyond comes back with its job

LONGEST_WRITE_MS = 600_000  # a file that never settles is taken as it is
CLOCKS_DIFFER_MS = 86_400_000  # a file server's clock is off by less: what is older is not being written
_FIRST_POLL = 1 / 4  # of the time that a file must not change

Seen = BlobInfo | Existence
"""How an original was when it was polled; UNKNOWN: it was changing."""


@dataclass
class _Watched:
    source: str
    seen: Seen
    until: float
    last: Seen
    since: float


@dataclass
class _Made:
    token: int
    source: str
    seen: BlobInfo
    next: float
    until: float
    over: float
    last: BlobInfo
    since: float


class OriginalWatcher:
    """Makes uploads due that are postponed because of their original, as soon as that has changed.

    An upload that is ready is done `again` if its original is written to within `settle_s`.
    """

    def __init__(
        self,
        blobs: Stat,
        make_due: Callable[[Sequence[UUID]], Awaitable[None]],
        again: Callable[[Mapping[UUID, int]], Awaitable[None]] | None = None,
        settle_s: float = 0,
    ) -> None:
        self._blobs = blobs
        self._make_due = make_due
        self._again = again
        self._settle_s = settle_s
        self._watched: dict[UUID, _Watched] = {}
        self._made: dict[UUID, _Made] = {}

    def watch(self, upload_id: UUID, source: str, seen: Seen, for_s: float) -> None:
        """Make the upload due if its original, `seen` so when it was tried, changes within `for_s`."""
        if len(self._watched) < MOST:
            now = time.monotonic()
            self._watched[upload_id] = _Watched(source, seen, now + for_s, Existence.UNKNOWN, now)

    def remaining_s(self, upload_id: UUID) -> float:
        """How much longer it is to be watched: more than nothing where its job came before its time."""
        watched = self._watched.get(upload_id)
        return max(0.0, watched.until - time.monotonic()) if watched else 0.0

    def watch_made(self, claim: Claim, source: str, seen: BlobInfo) -> None:
        """Have the upload done again if its original, `seen` so when it was read, is written to meanwhile.

        Only one that may be written just now, and not for ever.
        """
        now = time.monotonic()
        is_old = claim.began_ms - seen.written_ns // 1_000_000 > CLOCKS_DIFFER_MS
        waited_ms = claim.began_ms - claim.upload.queued_ms
        never_settles = claim.upload.original and waited_ms > LONGEST_WRITE_MS
        if self._again is None or not self._settle_s or is_old or never_settles or len(self._made) >= MOST:
            return
        self._made[claim.upload.id] = _Made(
            token=claim.token,
            source=source,
            seen=seen,
            next=now + self._settle_s * _FIRST_POLL,
            until=now + self._settle_s,
            over=now + LONGEST_WRITE_MS / 1000,
            last=seen,
            since=now,
        )

    @property
    def made(self) -> int:
        """How many uploads that are ready are polled."""
        return len(self._made)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            await self.poll()
            await self.poll_made()

    async def poll_made(self) -> None:
        """Poll once those that are ready and whose time has come. Raises: as `poll`."""
        now = time.monotonic()
        polled = {one: made for one, made in self._made.items() if made.next <= now}
        if not polled or self._again is None:
            return
        found = await self._blobs.stat(sorted({made.source for made in polled.values()}))
        written: dict[UUID, int] = {}
        for one, made in polled.items():
            if self._made.get(one) is not made:
                continue
            match _next_of(made, found[made.source], now):
                case float(then):
                    made.next = then
                case is_written:
                    del self._made[one]
                    written |= {one: made.token} if is_written else {}
        if written:
            await self._again(written)

    async def poll(self) -> None:
        """Poll once the originals of postponed uploads. Raises: StorageError, and what `make_due` does."""
        now = time.monotonic()
        self._watched = {one: watched for one, watched in self._watched.items() if watched.until > now}
        if not self._watched:
            return
        polled = dict(self._watched)  # others begin to watch while this waits
        found = await self._blobs.stat(sorted({watched.source for watched in polled.values()}))
        due = [
            one
            for one, watched in polled.items()
            if self._watched.get(one) is watched and _is_due(watched, found[watched.source], now)
        ]
        for upload_id in due:
            del self._watched[upload_id]
        if due:
            await self._make_due(due)


def _is_due(watched: _Watched, found: Seen, now: float) -> bool:
    if not isinstance(found, BlobInfo) or _is_same(found, watched.seen):
        return False
    if watched.seen is Existence.MISSING:
        return True
    if not _is_same(found, watched.last):
        watched.last, watched.since = found, now
    return now - watched.since >= SETTLED_S


def _next_of(made: _Made, found: Seen, now: float) -> float | bool:
    """When to poll it next, or whether it has been written to, once that is sure.

    A rename, another mode or a link writes nothing: only size and mtime count. One that was taken away was
    not written half.
    """
    if found is Existence.MISSING or now > made.over:
        return False
    if not isinstance(found, BlobInfo) or _is_as_long_written(found, made.seen):
        return made.until if now < made.until else False
    if not _is_as_long_written(found, made.last):
        made.last, made.since = found, now
    return True if now - made.since >= SETTLED_S else now


def _is_as_long_written(one: BlobInfo, other: BlobInfo) -> bool:
    return (one.bytes, one.written_ns) == (other.bytes, other.written_ns)


def _is_same(one: Seen, other: Seen) -> bool:
    """Whether a file is as it was; some file systems report another number at each stat."""
    if isinstance(one, BlobInfo) and isinstance(other, BlobInfo):
        return (one.bytes, one.changed_at) == (other.bytes, other.changed_at)
    return False
