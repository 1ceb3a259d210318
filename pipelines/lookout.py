"""Originals that are missing, or may still be written: looked at until they settle, without any job."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from storage.blobs import BlobInfo, Existence, Stat
from storage.catalog.clock import now_ms
from storage.catalog.records import Claim

EVERY_S = 0.5
STILL_S = 1.0  # a file that has not changed for so long is worth another try
MOST = 10_000  # uploads; what is beyond comes back with its job

LONGEST_WRITE_MS = 600_000  # a file that never settles is taken as it is
CLOCKS_DIFFER_MS = 86_400_000  # a file server's clock is off by less: what is older is not being written
_FIRST_LOOK = 1 / 4  # of the time that a file must not change

Sight = BlobInfo | Existence
"""How an original was when it was looked at; UNKNOWN: it was changing."""


@dataclass
class _Watched:
    source: str
    seen: Sight
    until: float
    last: Sight
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


class Lookout:
    """What is put off because of its original, and due as soon as that has changed.

    And what is ready, and done `again` if its original is written to within `settle_s`.
    """

    def __init__(
        self,
        blobs: Stat,
        hasten: Callable[[Sequence[UUID]], Awaitable[None]],
        again: Callable[[Mapping[UUID, int]], Awaitable[None]] | None = None,
        settle_s: float = 0,
    ) -> None:
        self._blobs = blobs
        self._hasten = hasten
        self._again = again
        self._settle_s = settle_s
        self._watched: dict[UUID, _Watched] = {}
        self._made: dict[UUID, _Made] = {}

    def watch(self, upload_id: UUID, source: str, seen: Sight, for_s: float) -> None:
        """Hasten the upload if its original, `seen` so when it was tried, changes within `for_s`."""
        if len(self._watched) < MOST:
            now = time.monotonic()
            self._watched[upload_id] = _Watched(source, seen, now + for_s, Existence.UNKNOWN, now)

    def rest_s(self, upload_id: UUID) -> float:
        """How much longer it is to be watched: more than nothing where its job came before its time."""
        watched = self._watched.get(upload_id)
        return max(0.0, watched.until - time.monotonic()) if watched else 0.0

    def watch_made(self, claim: Claim, source: str, seen: BlobInfo) -> None:
        """Have the upload done again if its original, `seen` so when it was read, is written to meanwhile.

        Only one that may be written just now, and not for ever.
        """
        now, now_is = time.monotonic(), now_ms()
        is_old = now_is - seen.written_ns // 1_000_000 > CLOCKS_DIFFER_MS
        never_settles = claim.upload.original and now_is - claim.upload.queued_ms > LONGEST_WRITE_MS
        if self._again is None or not self._settle_s or is_old or never_settles or len(self._made) >= MOST:
            return
        self._made[claim.upload.id] = _Made(
            token=claim.token,
            source=source,
            seen=seen,
            next=now + self._settle_s * _FIRST_LOOK,
            until=now + self._settle_s,
            over=now + LONGEST_WRITE_MS / 1000,
            last=seen,
            since=now,
        )

    @property
    def made(self) -> int:
        """How many uploads that are ready are looked at."""
        return len(self._made)

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()
            await self.look_at_made()

    async def look_at_made(self) -> None:
        """Look once at those that are ready and whose time has come. Raises: as `look`."""
        now = time.monotonic()
        looked_at = {one: made for one, made in self._made.items() if made.next <= now}
        if not looked_at or self._again is None:
            return
        found = await self._blobs.stat(sorted({made.source for made in looked_at.values()}))
        written: dict[UUID, int] = {}
        for one, made in looked_at.items():
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

    async def look(self) -> None:
        """Look once. Raises: StorageError, and what `hasten` does."""
        now = time.monotonic()
        self._watched = {one: watched for one, watched in self._watched.items() if watched.until > now}
        if not self._watched:
            return
        looked_at = dict(self._watched)  # others begin to watch while this waits
        found = await self._blobs.stat(sorted({watched.source for watched in looked_at.values()}))
        due = [
            one
            for one, watched in looked_at.items()
            if self._watched.get(one) is watched and _is_due(watched, found[watched.source], now)
        ]
        for upload_id in due:
            del self._watched[upload_id]
        if due:
            await self._hasten(due)


def _is_due(watched: _Watched, found: Sight, now: float) -> bool:
    if not isinstance(found, BlobInfo) or _is_same(found, watched.seen):
        return False
    if watched.seen is Existence.MISSING:
        return True
    if not _is_same(found, watched.last):
        watched.last, watched.since = found, now
    return now - watched.since >= STILL_S


def _next_of(made: _Made, found: Sight, now: float) -> float | bool:
    """When to look at it next, or whether it has been written to, once that is sure.

    A rename, another mode or a link writes nothing: only size and mtime count. One that was taken away is
    nobody's half picture.
    """
    if found is Existence.MISSING or now > made.over:
        return False
    if not isinstance(found, BlobInfo) or _is_as_long_written(found, made.seen):
        return made.until if now < made.until else False
    if not _is_as_long_written(found, made.last):
        made.last, made.since = found, now
    return True if now - made.since >= STILL_S else now


def _is_as_long_written(one: BlobInfo, other: BlobInfo) -> bool:
    return (one.bytes, one.written_ns) == (other.bytes, other.written_ns)


def _is_same(one: Sight, other: Sight) -> bool:
    """Whether a file is as it was; some file systems give it another number at each look."""
    if isinstance(one, BlobInfo) and isinstance(other, BlobInfo):
        return (one.bytes, one.changed_at) == (other.bytes, other.changed_at)
    return False
