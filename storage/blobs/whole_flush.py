"""When a whole file system is flushed for the sake of several files: only where that costs little.

It writes all that is dirty there, also what other programs have written. So it is done only while there is
little of that, and not again for a while after it has taken long.
"""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from storage.blobs import syscalls
from storage.mounts import TABLE

_KINDS = frozenset({"ext4"})  # where it was measured; that of a FUSE file system promises nothing
_REPORTS_ERRORS = (5, 8)  # the Linux since which a failed write is told to whoever flushes
_MEMORY = Path("/proc/meminfo")
_DIRTY = re.compile(rb"^(?:Dirty|Writeback):\s*(\d+) kB", re.MULTILINE)
_MOST_DIRTY = 16 * 1024 * 1024  # bytes of other programs
_SLOW_S = 0.25
_SOON_S = 0.1
_PAUSE_S, _LONG_PAUSE_S = 1.0, 60.0  # after much was dirty, and after it was slow


class WholeFlush:
    """Flushes file systems as a whole; `is_worth_trying` says whether it may be of use now."""

    def __init__(self) -> None:
        self._not_before = float("-inf")
        self._asked_at = float("-inf")
        self._fits: dict[int, bool] = {}  # by device

    @property
    def is_worth_trying(self) -> bool:
        """Whether those who want to flush something had better come together."""
        return time.monotonic() >= self._not_before

    def is_worth(self, callers: int) -> bool:
        """Whether so many flush at once, or one soon after the last ones: some do so all the time then."""
        now = time.monotonic()
        last, self._asked_at = self._asked_at, now
        return callers > 1 or now - last < _SOON_S

    def may_flush(self, device: int, written: int) -> bool:
        """Whether that file system can be flushed at little cost, after `written` bytes of one's own."""
        if device not in self._fits:
            self._fits[device] = kind_of(device) in _KINDS and _linux() >= _REPORTS_ERRORS
        if not self._fits[device]:
            self._not_before = float("inf")
            return False
        if not self.is_worth_trying:
            return False
        dirty = _dirty_bytes()
        if dirty is None or dirty - written > _MOST_DIRTY:
            self._not_before = time.monotonic() + _PAUSE_S
            return False
        return True

    def flush(self, fd: int) -> None:
        """Make all that was written to the file system of that open file durable. Raises: OSError."""
        began = time.monotonic()
        syscalls.sync_file_system(fd)
        ended = time.monotonic()
        if ended - began > _SLOW_S:
            self._not_before = ended + _LONG_PAUSE_S


def kind_of(device: int, table: Path | None = None) -> str | None:
    """The type of the file system on that device, as the kernel names it; None: nobody says."""
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    for fields, rest in _mounts(table or TABLE):
        if fields[2:3] == [number]:
            return rest.split(b" ")[0].decode()
    return None


def _mounts(table: Path) -> Sequence[tuple[Sequence[bytes], bytes]]:
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return []
    parts = [line.partition(b" - ") for line in lines]
    return [(fields.split(b" "), rest) for fields, _, rest in parts]


def _linux() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def _dirty_bytes() -> int | None:
    """What waits to be written to any disk of the machine; None: nobody says."""
    try:
        found = _DIRTY.findall(_MEMORY.read_bytes())
    except OSError:
        return None
    return 1024 * sum(map(int, found)) if found else None
