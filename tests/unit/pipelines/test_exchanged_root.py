"""A storage root that is exchanged under a worker: nothing is attempted, nobody hears of missing files."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from pipelines.batch import BatchContext, process_uploads
from pipelines.sandbox import Sandbox
from storage.blobs.local import LocalBlobs, open_local
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.errors import RootMismatch
from tests.support.batches import Uploads, batch_context
from tests.support.sandboxes import jpeg
from worker import retry

Exchange = Callable[[Path], None]


def moved_away(root: Path) -> None:
    root.rename(root.with_name("away"))


def another_mounted(root: Path) -> None:
    moved_away(root)
    root.mkdir()


def another_catalogs(root: Path) -> None:
    another_mounted(root)
    (root / ".media-root.json").write_text('{"catalog": "another", "version": 1}')


def emptied(root: Path) -> None:
    shutil.copytree(root, root.with_name("away"))
    for path in (root / "uploads", root / "variants"):
        shutil.rmtree(path, ignore_errors=True)
    (root / ".media-root.json").unlink()


EXCHANGES: dict[str, Exchange] = {
    "moved away": moved_away,
    "another folder": another_mounted,
    "another catalog's": another_catalogs,
    "emptied in place": emptied,
}


@pytest.fixture
def blobs(local_blobs: LocalBlobs) -> LocalBlobs:
    """Files: only a folder can be exchanged."""
    return local_blobs


@pytest.fixture
async def context(
    catalog: Catalog, local_blobs: LocalBlobs, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> BatchContext:
    await local_blobs.bind(catalog.id, catalog_is_new=True)
    monkeypatch.setattr(retry, "MISSING_FOR_MS", 0)  # a file that is missing is missing for good
    return batch_context(catalog, local_blobs, sandbox)


async def missed_once(uploads: Uploads, context: BatchContext) -> list[UUID]:
    """Uploads whose files were not there at the first look: at the next they are missing for good."""
    ids = []
    for name in ("0.jpg", "1.jpg", "2.jpg"):
        ids.append(await uploads.put(name, jpeg()))
        aside = uploads.path(name).rename(uploads.path(f"{name}.part"))
        await process([ids[-1]], uploads, context)
        aside.rename(uploads.path(name))
    return ids


async def process(ids: Sequence[UUID], uploads: Uploads, context: BatchContext) -> None:
    for upload_id in ids:
        await process_uploads([upload_id], await uploads.job_id(upload_id), context)


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES.keys())
@pytest.mark.rotating(2)
async def test_no_file_is_reported_missing_while_the_root_is_another(
    catalog: Catalog, uploads: Uploads, context: BatchContext, root: Path, exchange: Exchange
) -> None:
    ids = await missed_once(uploads, context)
    exchange(root)
    await process(ids, uploads, context)

    waiting = [await catalog.reports.find(upload_id) for upload_id in ids]
    assert [(one.state, one.attempts) for one in waiting if one] == [(State.QUEUED, 0)] * 3
    assert await catalog.outbox.unsent(0, 10) == []
    assert context.outage.pause_ms > 0
    with pytest.raises(RootMismatch, match=str(root)):
        await context.blobs.check_identity()


@pytest.mark.parametrize("copied", [True, False], ids=["a copy of it", "itself"])
async def test_work_goes_on_by_itself_when_the_root_is_back(
    catalog: Catalog,
    local_blobs: LocalBlobs,
    uploads: Uploads,
    context: BatchContext,
    root: Path,
    *,
    copied: bool,
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    away = root.with_name("away")
    moved_away(root)
    assert await context.outage.confirm()
    shutil.copytree(away, root) if copied else away.rename(root)
    await local_blobs.probe()
    fresh = batch_context(catalog, local_blobs, context.sandbox)
    await process_uploads([upload_id], await uploads.job_id(upload_id), fresh)

    found = await catalog.reports.find(upload_id)
    assert found is not None
    assert found.state is State.READY
    assert len(await uploads.variants()) == 3
    assert uploads.staged() == []


async def test_no_file_is_reported_missing_while_its_volume_was_missing_from_the_start(
    catalog: Catalog,
    local_blobs: LocalBlobs,
    uploads: Uploads,
    context: BatchContext,
    root: Path,
    volume: Path,
) -> None:
    (root / "uploads").symlink_to(volume)
    ids = await missed_once(uploads, context)
    await local_blobs.probe()
    (root / "uploads").unlink()
    (root / "uploads").mkdir()
    async with open_local(root, create=False) as blobs:
        await blobs.bind(catalog.id, catalog_is_new=False)
        fresh = batch_context(catalog, blobs, context.sandbox)
        await process(ids, uploads, fresh)

    waiting = [await catalog.reports.find(upload_id) for upload_id in ids]
    assert [(one.state, one.attempts) for one in waiting if one] == [(State.QUEUED, 0)] * 3
    assert f"{root}/uploads was a volume" in (fresh.outage.problem or "")


async def test_a_file_that_is_missing_in_the_right_root_is_reported(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    uploads.path("cat.jpg").unlink()
    await process([upload_id, upload_id], uploads, context)

    found = await catalog.reports.find(upload_id)
    assert found is not None
    assert (found.state, found.error_code) == (State.FAILED, "source_missing")
