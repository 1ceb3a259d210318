"""Verifying: every variant is read again at a bounded rate, and its hash compared with that of its row."""

import asyncio
import time
from dataclasses import dataclass, replace

from pipelines.digests import content_sha256
from pipelines.sweep.sweeper import LeaseHolder
from storage.blobs import Open
from storage.catalog.sweep_records import VERIFY, SweepRecords, VariantRow
from storage.errors import BlobNotFound, StorageError
from storage.threads import in_thread

_PAGE = 20  # files in one step


@dataclass
class Verified:
    """The result of a verification: files and bytes that were read, and keys by what is wrong with them."""

    files: int = 0
    bytes: int = 0
    damaged: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # the next sweep queues these
    remade: int = 0  # uploads that were queued for it


class Pace:
    """Limits reading to `rate` bytes a second on average."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._began = time.monotonic()
        self._bytes = 0

    async def passed(self, count: int) -> None:
        """Count `count` bytes as read, and wait until the rate allows more."""
        self._bytes += count
        await asyncio.sleep(max(0.0, self._began + self._bytes / self._rate - time.monotonic()))


async def verify(blobs: Open, holder: LeaseHolder, pace: Pace) -> Verified:
    """Read every variant, resuming where the last verification stopped, and queue damaged ones.

    A file that cannot be read is reported and left alone.

    Raises: SweepBusy while another verifies, SweepPaused, StorageError.
    """
    holder = replace(holder, lease=VERIFY)
    sweeps, found = holder.sweeps, Verified()
    async with holder.at_work():
        checkpoint = sweeps.checkpoint("verify")
        after = (await checkpoint.load() or {}).get("after", "")
        while page := await sweeps.rows(after, _PAGE):
            await holder.next_step()
            damaged: dict[str, str] = {}
            for row in page:
                if await _differs(row, blobs, sweeps, found):
                    damaged[row.key] = row.sha256
                await pace.passed(row.bytes)
            found.damaged += tuple(damaged)
            found.remade += await holder.installation.requeue_damaged(damaged) if damaged else 0
            after = page[-1].key
            await checkpoint.save({"after": after})
        await checkpoint.clear()
    return found


async def _differs(row: VariantRow, blobs: Open, sweeps: SweepRecords, found: Verified) -> bool:
    """Whether the file under a row's key has another content than the row says; False where unsure."""
    try:
        async with blobs.open(row.key) as source:
            actual = await in_thread(content_sha256, source.fd)
            found.files, found.bytes = found.files + 1, found.bytes + source.bytes
    except BlobNotFound:
        if row.key in await sweeps.find_rows([row.key]):
            found.missing += (row.key,)
        return False
    except (StorageError, OSError):
        found.unreadable += (row.key,)
        return False
    if actual == row.sha256:
        return False
    now = (await sweeps.find_rows([row.key])).get(row.key)
    return now is not None and now.sha256 == row.sha256  # otherwise it was made again meanwhile
