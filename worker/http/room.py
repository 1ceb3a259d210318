"""Whether there is room for one more upload: in this process, in the storage, and for whoever sends it."""

import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from storage.blobs import Space
from worker.http.problems import Problem

MINUTE_S = 60.0
FRESH_S = 1.0  # after which the storage is asked again how much room it has
_MANY_SENDERS = 1000
# One upload in so many: who has the token of one page must not keep all others out, however slowly they send.
_TOKENS_PART = 4

Clock = Callable[[], float]


class UploadRoom:
    """Takes `at_once` uploads, of each sender `rate` a minute (0: any number), while there is space."""

    def __init__(
        self,
        at_once: int,
        rate: int,
        space: Callable[[], Awaitable[Space | None]],
        clock: Clock = time.monotonic,
    ) -> None:
        self._at_once = at_once
        self._space = _Lately(space, clock)
        self._rate = Rate(rate, clock)
        self._uploads = 0
        self._of_tokens: Counter[str] = Counter()
        self._bytes = 0  # that may yet come

    @asynccontextmanager
    async def taken(self, sender: str, most_bytes: int, *, is_token: bool = False) -> AsyncIterator[None]:
        """Room for an upload of at most so many bytes, until the end; a token has a part of it at most.

        Raises: Problem (busy, storage_full, rate_limited), BlobsUnavailable.
        """
        if self._uploads >= self._at_once:
            raise Problem("busy", f"{self._uploads} uploads are on their way already. Try again soon.")
        if is_token and self._of_tokens[sender] >= max(1, self._at_once // _TOKENS_PART):
            raise Problem("busy", "Too many uploads by this token are on their way already. Try again soon.")
        self._uploads += 1
        self._of_tokens[sender] += is_token
        self._bytes += most_bytes
        try:
            await self._check_space()
            self._rate.count(sender)
            yield
        finally:
            self._uploads -= 1
            self._of_tokens[sender] -= is_token
            if not self._of_tokens[sender]:
                del self._of_tokens[sender]
            self._bytes -= most_bytes

    async def _check_space(self) -> None:
        space = await self._space.read()
        if space is None:
            return
        if space.free_bytes < self._bytes or space.free_files == 0:
            raise Problem("storage_full", "The storage has no room for that upload.")


class Rate:
    """Counts the uploads of each sender in the last minute: `most` are allowed, 0: any number."""

    def __init__(self, most: int, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._sent: dict[str, deque[float]] = {}

    def count(self, sender: str) -> None:
        """Count one more of that sender. Raises: Problem (rate_limited), and says when the next may come."""
        if not self._most:
            return
        now = self._clock()
        if len(self._sent) > _MANY_SENDERS:
            self._forget(now)
        sent = self._sent.setdefault(sender, deque())
        while sent and sent[0] <= now - MINUTE_S:
            sent.popleft()
        if len(sent) >= self._most:
            wait_s = max(1, math.ceil(sent[0] + MINUTE_S - now))
            raise Problem(
                "rate_limited",
                f"At most {self._most} uploads a minute are taken from one key or token.",
                headers={"Retry-After": str(wait_s)},
            )
        sent.append(now)

    def _forget(self, now: float) -> None:
        """Forget senders who have sent nothing in the last minute."""
        self._sent = {name: sent for name, sent in self._sent.items() if sent and sent[-1] > now - MINUTE_S}


class _Lately:
    """How much room the storage had a moment ago."""

    def __init__(self, ask: Callable[[], Awaitable[Space | None]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._found: Space | None = None
        self._until = float("-inf")

    async def read(self) -> Space | None:
        if self._clock() >= self._until:
            self._found = await self._ask()
            self._until = self._clock() + FRESH_S
        return self._found
