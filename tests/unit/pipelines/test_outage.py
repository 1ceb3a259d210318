"""Outages of the storage: nothing is attempted meanwhile, and no upload fails."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from pipelines.outage import Outage
from storage.blobs.local import LocalBlobs
from storage.errors import BlobsUnavailable


class DiskThatFails:
    """A storage whose disk answers nothing until it is mended."""

    def __init__(self) -> None:
        self.broken = True
        self.asked = 0

    async def probe(self) -> None:
        self.asked += 1
        if self.broken:
            raise BlobsUnavailable("Input/output error")


async def test_an_error_on_a_storage_that_works_is_the_uploads_own(local_blobs: LocalBlobs) -> None:
    assert not await Outage(local_blobs).confirm()


async def test_while_the_storage_is_down_it_is_not_asked_for_every_upload() -> None:
    disk = DiskThatFails()
    outage = Outage(disk)

    struck = [await outage.confirm() for _ in range(10)]

    assert all(struck)
    assert (disk.asked, outage.pause_ms > 0) == (1, True)


async def test_work_goes_on_as_soon_as_there_was_no_outage() -> None:
    disk = DiskThatFails()
    disk.broken = False
    outage = Outage(disk)

    await outage.confirm()

    assert outage.pause_ms == 0


async def test_after_a_pause_one_probe_says_whether_the_storage_is_still_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    disk = DiskThatFails()
    outage = Outage(disk)
    assert await outage.remaining_ms() == 0
    await outage.confirm()
    now += outage.pause_ms / 1000 + 1
    remaining = await asyncio.gather(*(outage.remaining_ms() for _ in range(10)))
    probes = disk.asked
    disk.broken = False
    now += outage.pause_ms / 1000 + 1

    assert (min(remaining) > 0, probes) == (True, 2)
    assert (await outage.remaining_ms(), await outage.remaining_ms()) == (0, 0)
    assert disk.asked == 3


async def test_a_staging_folder_that_was_cleared_away_is_made_again(
    local_blobs: LocalBlobs, root: Path
) -> None:
    await local_blobs.probe()
    shutil.rmtree(root / "staging")

    await local_blobs.probe()

    assert not await Outage(local_blobs).confirm()
