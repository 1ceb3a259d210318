"""Verifying: what is read again, what is made again, and what is left alone."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.sweep.sweeper import LeaseHolder, SweepPaused
from pipelines.sweep.verify import Pace, Verified, verify
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import Original, Ready, State, StoredVariant
from tests.support.blobs import on_both, on_files
from tests.support.catalogs import claim, commit, take, upload, upload_event
from tests.support.sweeps import CONTENT, InstallationStub, put


@dataclass
class Verifier:
    """Somebody who verifies, and what lies there."""

    catalog: Catalog
    blobs: Storage
    stop_after: int = 1_000
    paces: list[int] = field(default_factory=list)

    async def recorded(self, *keys: str) -> None:
        await take(self.catalog, upload_event(1))
        taken = await claim(self.catalog)
        made = [
            StoredVariant(f"v{at}", key, 1, 1, len(CONTENT), sha256(CONTENT).hexdigest())
            for at, key in enumerate(keys)
        ]
        await commit(self.catalog, Ready(taken, Original("stamp", "0" * 64, 3, "jpeg", 10, 10), made))

    async def run(self) -> Verified:
        steps = iter(range(10_000))
        installation = InstallationStub(self.catalog, is_stopping=lambda: next(steps) >= self.stop_after)
        holder = LeaseHolder(sweeps=self.catalog.sweeps, installation=installation)
        return await verify(self.blobs, holder, Pace(1e9))


@pytest.fixture
def verifier(catalog: Catalog, blobs: Storage) -> Verifier:
    return Verifier(catalog, blobs)


async def test_whole_files_are_read_and_nothing_is_made_again(verifier: Verifier) -> None:
    await verifier.recorded(await put(verifier.blobs), await put(verifier.blobs))

    assert await verifier.run() == Verified(2, 2 * len(CONTENT))
    assert (await upload(verifier.catalog)).state is State.READY


@on_both
@pytest.mark.parametrize("damage", [b"picturf", b"pic", b""], ids=["a bit", "cut off", "empty"])
async def test_a_damaged_file_is_reported_and_stays_until_it_is_made_again(
    verifier: Verifier, damage: bytes
) -> None:
    whole, damaged = await put(verifier.blobs), await put(verifier.blobs)
    await verifier.recorded(whole, damaged)
    await verifier.blobs.store([(damaged, damage)])

    found = await verifier.run()

    assert (found.damaged, found.remade) == ((damaged,), 1)
    assert await verifier.blobs.get(damaged) == damage
    row = await upload(verifier.catalog)
    assert row.state is State.QUEUED
    assert [one.sha256 == "" for one in row.variants] == [one.key == damaged for one in row.variants]


@on_files
async def test_what_cannot_be_read_is_unknown_and_left_alone(verifier: Verifier, root: Path) -> None:
    linked, gone = await put(verifier.blobs), await put(verifier.blobs)
    await verifier.recorded(linked, gone)
    (root / linked).rename(root / "elsewhere")
    (root / linked).symlink_to(root / "elsewhere")
    (root / gone).unlink()

    found = await verifier.run()

    assert (found.unreadable, found.missing, found.damaged, found.remade) == ((linked,), (gone,), (), 0)
    assert (await upload(verifier.catalog)).state is State.READY


async def test_it_goes_on_where_it_was_stopped_and_begins_anew_once_it_is_done(verifier: Verifier) -> None:
    await verifier.recorded(*[await put(verifier.blobs) for _ in range(50)])
    verifier.stop_after = 1
    with pytest.raises(SweepPaused):
        await verifier.run()
    verifier.stop_after = 1_000

    assert [(await verifier.run()).files for _ in range(2)] == [30, 50]


async def test_it_reads_no_faster_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("pipelines.sweep.verify.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr("pipelines.sweep.verify.asyncio", SimpleNamespace(sleep=sleep))
    pace = Pace(1000)
    for _ in range(4):
        await pace.passed(500)
    clock[0] += 10  # the disk was slow: that is not made up for by a pause
    await pace.passed(500)

    assert slept == [0.5, 0.5, 0.5, 0.5, 0]
