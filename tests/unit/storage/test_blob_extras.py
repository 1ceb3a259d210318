"""What a copy has and its source has not: what leaves it, where it goes, and what stays whatever comes."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.s3_server import S3Server
from storage.blobs import Storage
from storage.blobs.copy_notes import CopyNotes
from storage.blobs.copying import BlobCopy, Extra
from storage.blobs.extras import Extras
from storage.blobs.local import LocalBlobs, open_local
from storage.blobs.memory import MemoryBlobs
from storage.blobs.opening import open_blobs
from storage.errors import RootMismatch
from tests.support.blobs import chunks, is_there, listed
from tests.support.s3 import new_place

CATALOG = "5f7c0d1e-0000-4000-8000-000000000000"
OURS, THEIRS = "uploads/ours.jpg", "uploads/theirs.jpg"
KEPT = "variants/ke/pt/v.jpg"
TRASHED = "trash/delete-b6d0e0ac-0000-4000-8000-000000000000-1/uploads/a.jpg"


@dataclass(frozen=True)
class KeptRows:
    """The variants that have rows."""

    keys: frozenset[str] = frozenset()

    async def find_rows(self, keys: Sequence[str]) -> Collection[str]:
        return self.keys.intersection(keys)


@pytest.fixture
def source() -> MemoryBlobs:
    """The storage that is copied."""
    return MemoryBlobs()


@pytest.fixture(params=["memory", "files", "bucket"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """Where the copy goes."""
    if request.param == "memory":
        yield MemoryBlobs()
    elif request.param == "files":
        async with open_local(tmp_path / "copy", create=True) as blobs:
            yield blobs
    else:
        server: S3Server = request.getfixturevalue("ministack")
        async with open_blobs(new_place(server).url, create=True) as bucket:
            yield bucket


async def copied(source: Storage, target: Storage, extra: Extra | None = None) -> list[str]:
    """Copies; returns the originals of which the target has others."""
    steps = BlobCopy(source, target, extra=extra, clocks_differ_s=-10).copy()
    return [key async for step in steps for key in step.extra]


async def leave(
    source: Storage, target: Storage, extra: Extra | None = None, rows: Collection[str] = ()
) -> tuple[int, list[str]]:
    """How many leave the copy, and which originals are somebody's."""
    extras = Extras(source, target, KeptRows(frozenset(rows)), extra=extra, dry_run=False)
    steps = [step async for step in extras.set_aside()]
    return sum(step.removed for step in steps), [key for step in steps for key in step.extra]


async def trash_of(target: Storage) -> dict[str, bytes]:
    """The contents of the trash, by what they were."""
    return {key.split("/", 2)[2]: await target.get(key) for key in await listed(target, "trash")}


async def test_an_original_that_a_copy_wrote_goes_to_the_trash_when_its_source_has_it_no_more(
    source: MemoryBlobs, target: Storage
) -> None:
    for key in (OURS, "uploads/other.jpg"):
        await source.put(key, chunks(b"of the storage"))
    await copied(source, target)
    await source.delete(OURS)

    assert await leave(source, target) == (1, [])
    assert await listed(target, "uploads") == ["uploads/other.jpg"]
    assert await trash_of(target) == {OURS: b"of the storage"}


async def test_an_original_that_no_copy_wrote_stays(source: MemoryBlobs, target: Storage) -> None:
    await source.put(OURS, chunks(b"of the storage"))
    await copied(source, target)
    await target.put(THEIRS, chunks(b"put there by an app"))

    assert await leave(source, target) == (0, [THEIRS])
    assert await leave(source, target, Extra.KEEP) == (0, [THEIRS])
    assert await target.get(THEIRS) == b"put there by an app"
    assert await leave(source, target, Extra.TRASH) == (1, [])
    assert await trash_of(target) == {THEIRS: b"put there by an app"}


async def test_an_original_that_was_written_over_its_copy_stays(source: MemoryBlobs, target: Storage) -> None:
    await source.put(OURS, chunks(b"of the storage"))
    await copied(source, target)
    await target.put(OURS, chunks(b"of an app, and other"))
    await source.delete(OURS)

    assert await leave(source, target) == (0, [OURS])
    assert await target.get(OURS) == b"of an app, and other"


async def test_a_newer_original_is_not_written_over_by_the_storages(
    source: MemoryBlobs, target: Storage
) -> None:
    await source.put(OURS, chunks(b"of the storage"))
    await target.put(OURS, chunks(b"of an app, and newer"))

    for extra in (None, Extra.KEEP):
        assert await copied(source, target, extra) == [OURS]
        assert await target.get(OURS) == b"of an app, and newer"
    assert await copied(source, target, Extra.TRASH) == []
    assert await target.get(OURS) == b"of the storage"
    assert await trash_of(target) == {OURS: b"of an app, and newer"}


async def test_a_variant_leaves_unless_a_row_has_it_for_then_the_copy_may_be_the_only_one(
    source: MemoryBlobs, target: Storage
) -> None:
    await target.put(KEPT, chunks(b"v"))
    await target.put("variants/no/ne/v.jpg", chunks(b"superseded"))

    assert await leave(source, target, rows=[KEPT]) == (1, [])
    assert await listed(target, "variants") == [KEPT]
    assert await trash_of(target) == {"variants/no/ne/v.jpg": b"superseded"}


async def test_the_trash_of_a_copy_is_left_to_the_purge(source: MemoryBlobs, target: Storage) -> None:
    await target.put(TRASHED, chunks(b"x"))

    assert await leave(source, target, Extra.TRASH) == (0, [])
    assert await is_there(target, TRASHED)


async def test_no_notes_are_left_once_they_are_forgotten(source: MemoryBlobs, target: Storage) -> None:
    await source.put(OURS, chunks(b"of the storage"))
    await copied(source, target)
    assert await CopyNotes(target).among([OURS, THEIRS]) == {OURS}
    await CopyNotes(target).forget()

    assert await CopyNotes(target).among([OURS]) == frozenset()
    await source.delete(OURS)
    assert await leave(source, target) == (0, [OURS])  # nobody knows any more who wrote it


async def test_a_source_that_went_away_moves_nothing_out_of_the_copy(
    local_blobs: LocalBlobs, root: Path
) -> None:
    target = MemoryBlobs()
    await local_blobs.put(OURS, chunks(b"of the storage"))
    await copied(local_blobs, target)
    await local_blobs.rebind(CATALOG)
    root.rename(root.with_name("unmounted"))
    root.mkdir()

    with pytest.raises(RootMismatch):
        await leave(local_blobs, target)
    assert await is_there(target, OURS)
