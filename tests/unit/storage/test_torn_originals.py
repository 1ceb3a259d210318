"""Torn originals give way to the version in the backup, and nothing that an app writes meanwhile is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from storage.backups.mending import MendStep, mend
from storage.backups.versions import Versions, open_versions
from storage.blobs import BlobInfo
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog
from storage.catalog.sources import Expected
from storage.errors import BlobPinned

KEY = "uploads/cat.jpg"
GOOD, TORN, NEWER = b"the whole picture", b"the whole", b"an app's newer one"
FOLDER = "delete-by-restore-12345678"
ASIDE = f"trash/{FOLDER}/{KEY}"
ALL_SETTLED = float("inf")


class BusyBlobs(LocalBlobs):
    """Files beside which an app writes: before an original is moved away, or after that."""

    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    async def move(self, key: str, to: str, *, replace: bool = True) -> BlobInfo | None:
        if key != KEY:
            return await super().move(key, to, replace=replace)
        self.before()
        moved = await super().move(key, to, replace=replace)
        self.after()
        return moved


@pytest.fixture
def blobs(local_blobs: LocalBlobs) -> BusyBlobs:
    busy = BusyBlobs.__new__(BusyBlobs)
    vars(busy).update(vars(local_blobs))
    return busy


@pytest.fixture
def original(root: Path) -> Path:
    """A torn original, in its place."""
    path = root / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(TORN)
    return path


@pytest.fixture
async def versions(tmp_path: Path) -> AsyncIterator[Versions]:
    """A backup that has the whole one."""
    kept = tmp_path / "backup/files" / KEY
    kept.parent.mkdir(parents=True)
    kept.write_bytes(GOOD)
    async with open_versions(tmp_path / "backup") as opened:
        yield opened


async def mended(
    catalog: Catalog,
    blobs: LocalBlobs,
    versions: Versions,
    settled_before: float = ALL_SETTLED,
    *,
    expected: Expected | None = None,
    dry_run: bool = False,
) -> MendStep:
    found = mend(catalog.sources, blobs, versions, {KEY: expected}, FOLDER, settled_before, dry_run=dry_run)
    [step] = [step async for step in found]
    return step


async def test_a_torn_original_gives_way_to_the_whole_one_and_is_kept(
    catalog: Catalog, blobs: BusyBlobs, versions: Versions, original: Path, root: Path
) -> None:
    step = await mended(catalog, blobs, versions)

    assert (step.mended, step.mismatched) == ({KEY: ASIDE}, {})
    assert (original.read_bytes(), (root / ASIDE).read_bytes()) == (GOOD, TORN)
    assert [path for path in (root / "trash").rglob("*") if path.is_file()] == [root / ASIDE]


async def test_an_original_of_the_size_that_is_expected_of_it_is_not_torn(
    catalog: Catalog, blobs: BusyBlobs, versions: Versions, original: Path
) -> None:
    expected = Expected(KEY, len(TORN), len(TORN), 0)

    step = await mended(catalog, blobs, versions, expected=expected)

    assert (step.mended, step.mismatched, original.read_bytes()) == ({}, {}, TORN)


async def test_an_original_that_an_app_has_ended_writing_meanwhile_stays(
    catalog: Catalog, blobs: BusyBlobs, versions: Versions, original: Path
) -> None:
    blobs.before = lambda: original.write_bytes(NEWER)  # into the same file

    step = await mended(catalog, blobs, versions)

    assert original.read_bytes() == NEWER
    assert (step.mended, [*step.mismatched]) == ({}, [KEY])


async def test_an_original_that_an_app_puts_there_meanwhile_is_not_replaced(
    catalog: Catalog, blobs: BusyBlobs, versions: Versions, original: Path, root: Path
) -> None:
    blobs.after = lambda: original.write_bytes(NEWER)

    step = await mended(catalog, blobs, versions)

    assert (original.read_bytes(), (root / ASIDE).read_bytes()) == (NEWER, TORN)
    assert (step.mended, [*step.mismatched]) == ({}, [KEY])


@pytest.mark.parametrize("dry_run", [False, True])
async def test_an_original_that_an_app_may_still_write_stays_and_is_named(
    catalog: Catalog, blobs: BusyBlobs, versions: Versions, original: Path, dry_run: bool
) -> None:
    settled_before = original.stat().st_ctime

    step = await mended(catalog, blobs, versions, settled_before, dry_run=dry_run)

    assert original.read_bytes() == TORN
    assert (step.mended, "when no app writes it any more" in step.mismatched[KEY]) == ({}, True)


async def test_a_torn_original_that_cannot_be_taken_away_stays_and_leaves_nothing_in_the_trash(
    catalog: Catalog, blobs: BusyBlobs, versions: Versions, original: Path, root: Path
) -> None:
    def refuse() -> None:
        raise BlobPinned("it cannot be taken away")

    blobs.before = refuse
    step = await mended(catalog, blobs, versions)

    assert (original.read_bytes(), step.mended) == (TORN, {})
    assert step.mismatched == {KEY: "it cannot be taken away"}
    assert [path for path in (root / "trash").rglob("*") if path.is_file()] == []


async def test_a_torn_original_is_back_in_its_place_after_a_stop_in_the_middle(
    catalog: Catalog, blobs: BusyBlobs, versions: Versions, original: Path, root: Path
) -> None:
    def stop() -> None:
        raise asyncio.CancelledError

    blobs.after = stop
    with pytest.raises(asyncio.CancelledError):
        await mended(catalog, blobs, versions)

    assert original.read_bytes() == TORN
    assert [path for path in (root / "trash").rglob("*") if path.is_file()] == []
