"""How it went in the last hour: counted as messages come, so that no page has to."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from storage.catalog.reading import MessageHead, Reader
from storage.catalog.records import State
from storage.errors import StorageError
from worker.http.tail import Tail

log = structlog.get_logger(__name__)

MINUTES = 60
MOST = 200_000  # messages that are read of the hour before the start
_MINUTE_MS = 60_000
_PAGE = 500
_PAUSE_S = 0.02  # between pages, in which others read
_EVERY_S = 0.25  # how often it reads while messages come
_LOOK_S = 60.0  # after which it reads though it heard of none
_AGAIN_S = 2.0  # after which a catalog that is away is asked again
_STEP = math.log(1.05)  # of latencies: what is told is 2.5 % wrong at most


@dataclass(frozen=True)
class Minute:
    """What became of uploads in a minute, which begins so many ms after 1970."""

    begin_ms: int
    ready: int = 0
    failed: int = 0


@dataclass(frozen=True)
class ReadyRate:
    """How many uploads became ready a second, and in how many seconds that was counted."""

    per_second: float
    within_s: float


@dataclass
class _Counts:
    ready: int = 0
    failed: int = 0
    latencies: Counter[int] = field(default_factory=Counter)
    """How many uploads took a power of 1.05 milliseconds, by the exponent."""

    def add(self, head: MessageHead) -> None:
        if head.refused:
            return  # not all of those have a message: whoever wants them counts dead letters
        if head.kind is State.FAILED:
            self.failed += 1
        elif head.kind is State.READY:
            self.ready += 1
            if head.waited_ms is not None:
                self.latencies[round(math.log(max(1, head.waited_ms)) / _STEP)] += 1


class Pulse:
    """Counts the outcomes of the last hour by minute, and how long uploads took to become ready."""

    def __init__(self, reader: Callable[[], Reader], tail: Tail, now_ms: Callable[[], int]) -> None:
        self._reader = reader
        self._tail = tail
        self._now_ms = now_ms
        self._counts: dict[int, _Counts] = {}
        self._last: int | None = None
        self.since_ms: int | None = None
        """From when on all messages are counted; None before the first look."""
        self.is_complete = False
        """Whether it has read up to the newest message, so that the last minutes are not empty for that."""

    def minutes(self) -> Sequence[Minute]:
        """The last 60 minutes, oldest first; the last one goes on."""
        now = self._now_ms() // _MINUTE_MS
        empty = _Counts()
        counted = ((number, self._counts.get(number, empty)) for number in range(now - MINUTES + 1, now + 1))
        return [Minute(number * _MINUTE_MS, one.ready, one.failed) for number, one in counted]

    def latency(self) -> tuple[float, float] | None:
        """The seconds within which half of the uploads, and 95 % of them, became ready in these minutes.

        They begin when a worker took the upload's event, or it was queued again. None: none became ready.
        """
        oldest = self._now_ms() // _MINUTE_MS - MINUTES + 1
        took: Counter[int] = Counter()
        for number, counts in self._counts.items():
            if number >= oldest:
                took.update(counts.latencies)
        return (_quantile(took, 0.5), _quantile(took, 0.95)) if took else None

    def rate(self) -> ReadyRate | None:
        """How quickly uploads became ready in this minute and the last; None until that is known."""
        if not self.is_complete:
            return None
        last, now = self.minutes()[-2:]
        within_s = 60 + (self._now_ms() - now.begin_ms) / 1000
        return ReadyRate((last.ready + now.ready) / within_s, within_s)

    async def follow(self) -> None:
        """Count until cancelled, through every outage of the catalog, which the tail logs."""
        with self._tail.subscribed() as news:
            while True:
                try:
                    await self._read_on()
                    await asyncio.sleep(_EVERY_S)
                    await news.news(_LOOK_S)
                except StorageError:
                    await asyncio.sleep(_AGAIN_S)
                except Exception:
                    log.exception("pulse_crashed")  # a bug, which need not stop the counting for ever
                    await asyncio.sleep(_LOOK_S)

    async def _read_on(self) -> None:
        """Count up to the newest message."""
        last = await self._place_before_the_hour() if self._last is None else self._last
        while heads := await self._reader().message_heads(last, _PAGE):
            for head in heads:
                self._counts.setdefault(head.time_ms // _MINUTE_MS, _Counts()).add(head)
            self._last = last = heads[-1].seq
            self._forget()
            if len(heads) < _PAGE:
                break
            await asyncio.sleep(_PAUSE_S)
        self._last, self.is_complete = last, True

    async def _place_before_the_hour(self) -> int:
        """The `seq` after which messages are counted: those of the last hour, or the newest of too many."""
        begin_ms = self._now_ms() - MINUTES * _MINUTE_MS
        newest, first = await self._reader().newest_seq(), await self._reader().first_seq(begin_ms)
        self.since_ms = begin_ms
        if first is None:
            return newest
        if first <= newest - MOST:
            [head] = await self._reader().message_heads(newest - MOST, 1)
            self.since_ms = head.time_ms
        return max(first - 1, newest - MOST)

    def _forget(self) -> None:
        oldest = self._now_ms() // _MINUTE_MS - MINUTES
        for number in [number for number in self._counts if number < oldest]:
            del self._counts[number]


def _quantile(took: Counter[int], share: float) -> float:
    """The seconds within which that share of uploads was ready."""
    left = math.ceil(share * took.total())
    for exponent in sorted(took):
        left -= took[exponent]
        if left <= 0:
            break
    return math.exp(exponent * _STEP) / 1000
