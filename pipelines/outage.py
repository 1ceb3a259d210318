"""Outages: while the storage as a whole is down, nothing is attempted, and no upload is blamed for it."""

import time

from storage.blobs import Probe
from storage.errors import StorageError

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0


class Outage:
    """Whether the storage is down, and when it is worth looking again."""

    def __init__(self, storage: Probe) -> None:
        self._storage = storage
        self._pause_s = _FIRST_PAUSE_S
        self._until = float("-inf")

    @property
    def pause_ms(self) -> int:
        """How long no new work is to be taken; 0 while the storage is well."""
        return int(max(0.0, self._until - time.monotonic()) * 1000)

    async def strikes(self) -> bool:
        """Whether an error that was just met is the whole storage's, found out by trying it."""
        if self.pause_ms:
            return True
        try:
            await self._storage.probe()
        except StorageError:
            self._until = time.monotonic() + self._pause_s
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            return True
        self._pause_s = _FIRST_PAUSE_S
        return False
