"""Outages: while what all uploads depend on is down, nothing is attempted, and no upload fails for it."""

import asyncio
import time

from pipelines.backoff import Backoff
from storage.blobs import Probe
from storage.errors import StorageError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0


class Outage:
    """Whether the storage is down, or whatever else `probe` tries, and when it is worth looking again."""

    def __init__(self, stands_on: Probe, error: type[Exception] = StorageError) -> None:
        self._stands_on = stands_on
        self._error = error
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._until = self._probed_at = float("-inf")
        self._probing = asyncio.Lock()
        self.problem: str | None = None
        """The failure of the last probe; None once one has passed."""

    @property
    def pause_ms(self) -> int:
        """How long no new work is to be taken; 0 while all is well."""
        return int(max(0.0, self._until - time.monotonic()) * 1000)

    async def remaining_ms(self) -> int:
        """How long nothing is to be attempted; where a pause has ended, a probe says whether it is over."""
        if self._has_waited:
            async with self._probing:
                if self._has_waited:
                    await self._probe()
        return self.pause_ms

    @property
    def _has_waited(self) -> bool:
        return self.problem is not None and not self.pause_ms

    async def confirm(self) -> bool:
        """Whether an error that was just met is everybody's, found out by trying it.

        Many who ask at once are answered by one probe.
        """
        asked = time.monotonic()
        async with self._probing:
            if not self.pause_ms and self._probed_at < asked:
                await self._probe()
            return self.problem is not None

    async def _probe(self) -> None:
        began = time.monotonic()
        try:
            await self._stands_on.probe()
        except self._error as error:
            self.problem = str(error)
            self._until = time.monotonic() + self._backoff.next_s()
        else:
            self.problem = None
            self._backoff.reset()
        self._probed_at = began
