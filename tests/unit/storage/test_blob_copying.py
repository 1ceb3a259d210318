"""The copy of one storage in another: what it holds, and what it never touches."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from pathlib import Path

import pytest

from storage.blobs import Storage
from storage.blobs.copying import BlobCopy, CopyStep, Extra, check_target
from storage.blobs.extras import Extras
from storage.blobs.local import LocalBlobs, open_local
from storage.blobs.memory import MemoryBlobs
from storage.blobs.owners import moved, unfinished
from storage.errors import RootMismatch
from tests.support.blobs import chunks, listed
from tests.support.file_systems import without_links

CATALOG = "5f7c0d1e-0000-4000-8000-000000000000"
KEYS = [
    "trash/sweep-20261101T000000-0badcafe/plan.json",
    "uploads/deep/a.jpg",
    "uploads/b.jpg",
    "variants/ab/cd/v.jpg",
]


@pytest.fixture
async def source(local_blobs: LocalBlobs) -> LocalBlobs:
    """A storage with one blob under each of KEYS."""
    for key in KEYS:
        await local_blobs.put(key, chunks(key.encode()))
    return local_blobs


@pytest.fixture
def target() -> MemoryBlobs:
    """Where the copy goes: another backend."""
    return MemoryBlobs()


class NoRowAtAll:
    """A catalog without variants."""

    async def find_rows(self, keys: Sequence[str]) -> Collection[str]:
        return []


async def run(steps: AsyncGenerator[CopyStep, None]) -> tuple[int, int]:
    """How many blobs were copied, and were there."""
    found = [step async for step in steps]
    return sum(s.copied for s in found), sum(s.same for s in found)


async def contents(blobs: Storage) -> dict[str, bytes]:
    return {
        key: await blobs.get(key)
        for area in ("trash", "uploads", "variants")
        for key in await listed(blobs, area)
    }


async def test_a_copy_has_every_blob_and_a_second_pass_only_what_is_new(
    source: LocalBlobs, target: MemoryBlobs
) -> None:
    copying = BlobCopy(source, target, clocks_differ_s=0)

    assert await run(copying.copy()) == (4, 0)
    await source.put("uploads/new.jpg", chunks(b"new"))
    await source.put("uploads/b.jpg", chunks(b"uploads/X.jpg"))  # replaced, of the same size
    assert await run(copying.copy()) == (2, 3)
    assert await contents(target) == await contents(source)


async def test_an_original_that_was_written_about_when_it_was_copied_is_copied_again(
    source: LocalBlobs, target: MemoryBlobs
) -> None:
    copying = BlobCopy(source, target)
    await run(copying.copy())

    assert await run(copying.copy()) == (3, 1)  # the name of a variant stands for its bytes


async def test_a_copy_back_into_files_has_every_blob(source: LocalBlobs, target: MemoryBlobs) -> None:
    await run(BlobCopy(source, target).copy())
    before = await contents(source)
    for key in KEYS:
        await source.delete(key)

    assert await run(BlobCopy(target, source).copy()) == (4, 0)
    assert await contents(source) == before


async def test_a_copy_goes_on_behind_the_key_where_it_stopped(
    source: LocalBlobs, target: MemoryBlobs
) -> None:
    await run(BlobCopy(source, target).copy("uploads", "uploads/b.jpg"))

    assert await listed(target, "uploads") == ["uploads/deep/a.jpg"]
    assert await listed(target, "variants") == ["variants/ab/cd/v.jpg"]


async def test_a_dry_run_counts_and_writes_nothing(source: LocalBlobs, target: MemoryBlobs) -> None:
    await target.put("uploads/extra.jpg", chunks(b"x"))
    await target.put("variants/no/ne/extra.jpg", chunks(b"x"))
    extras = Extras(source, target, NoRowAtAll(), extra=Extra.TRASH, dry_run=True)

    assert await run(BlobCopy(source, target, dry_run=True).copy()) == (4, 0)
    assert sum([step.removed async for step in extras.set_aside()]) == 2
    assert sorted(await contents(target)) == ["uploads/extra.jpg", "variants/no/ne/extra.jpg"]


async def test_what_cannot_be_copied_is_named_and_keeps_nothing_else_from_being_copied(
    local_blobs: LocalBlobs, target: MemoryBlobs
) -> None:
    for key in ("uploads/a", "uploads/a/below.jpg", "uploads/b"):  # no file system has both a and a/below
        await target.put(key, chunks(b"x"))

    for _ in range(2):
        steps = [step async for step in BlobCopy(target, local_blobs).copy()]
        [refused] = [key for step in steps for key in step.refused]
        assert refused in ("uploads/a", "uploads/a/below.jpg")
        assert sum(step.copied for step in steps) == 2


class Writes(MemoryBlobs):
    """Knows how many blobs were written at the same time at most."""

    now = most = 0

    async def put(self, key: str, chunks: AsyncIterator[bytes], size: int | None = None) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        count = await super().put(key, chunks, size)
        await asyncio.sleep(0)
        self.now -= 1
        return count


@pytest.mark.parametrize(("size", "most"), [(10, 16), (10_000_000, 3), (30_000_000, 2)])
async def test_as_many_blobs_are_copied_at_once_as_memory_bears(size: int, most: int) -> None:
    source, target = MemoryBlobs(), Writes()
    await source.store([(f"uploads/{number}", bytes(size)) for number in range(17 if size == 10 else 4)])
    await run(BlobCopy(source, target).copy())

    assert target.most == most


@pytest.mark.parametrize("owner", [None, unfinished(CATALOG), moved(CATALOG, "s3://new")])
async def test_a_copy_goes_where_nothing_is_or_an_older_copy(target: MemoryBlobs, owner: str | None) -> None:
    if owner is not None:
        await target.rebind(owner)
        await target.put("uploads/a.jpg", chunks(b"of the older copy"))

    await check_target(target, CATALOG, "memory")


@pytest.mark.parametrize("owner", [None, CATALOG, "another"])
async def test_a_copy_never_goes_over_blobs_of_somebody_else(target: MemoryBlobs, owner: str | None) -> None:
    await target.put("uploads/a.jpg", chunks(b"x"))
    if owner is not None:
        await target.rebind(owner)

    with pytest.raises(RootMismatch, match="choose an empty place"):
        await check_target(target, CATALOG, "memory")


@pytest.fixture
async def beside(tmp_path: Path) -> AsyncIterator[LocalBlobs]:
    """Another folder on the same file system."""
    async with open_local(tmp_path / "beside", create=True) as blobs:
        yield blobs


def linking(source: LocalBlobs, beside: LocalBlobs) -> BlobCopy:
    return BlobCopy(source, beside, areas=("uploads",), noted=False, link=beside.linker(source))


async def test_what_can_be_linked_is_not_copied_and_other_areas_are_left_out(
    source: LocalBlobs, beside: LocalBlobs
) -> None:
    found = [await run(linking(source, beside).copy()) for _ in range(2)]

    assert found == [(2, 0), (0, 2)]
    assert (beside.root / KEYS[1]).samefile(source.root / KEYS[1])
    assert {area: await listed(beside, area) for area in ("trash", "variants")} == {
        "trash": [],
        "variants": [],
    }
    assert list(beside.root.glob(".media-link*")) == []


async def test_a_link_gives_way_to_a_newer_original(source: LocalBlobs, beside: LocalBlobs) -> None:
    await run(linking(source, beside).copy())
    await source.put(KEYS[1], chunks(b"another"))

    assert await run(linking(source, beside).copy()) == (1, 1)
    assert (beside.root / KEYS[1]).read_bytes() == b"another"


async def test_what_cannot_be_linked_is_copied(
    source: LocalBlobs, beside: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying = linking(source, beside)
    without_links(monkeypatch)

    assert await run(copying.copy()) == (2, 0)
    assert (beside.root / KEYS[1]).read_bytes() == KEYS[1].encode()
    assert not (beside.root / KEYS[1]).samefile(source.root / KEYS[1])
