"""A damaged page of the catalog costs the uploads whose rows lie on it their outcome, and no other."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import pytest

from pipelines import commits
from pipelines.batch import process_uploads
from pipelines.commits import Committer
from pipelines.sandbox import Sandbox
from storage.blobs import Storage
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import Committed, State, UploadRequested
from storage.errors import CatalogDamaged
from tests.conftest import url_of
from tests.support.batches import batch_context
from tests.support.catalogs import claim, failed, spreading, take, upload_event
from tests.support.damage import page_with, settle, zero

COUNT, BATCH = 300, 30


@pytest.fixture
async def damaged(catalog: Catalog, tmp_path: Path) -> tuple[Path, str, list[UUID]]:
    """A catalog with many uploads on one job, some of whose rows lie on a page of zeros."""
    ids = [uuid4() for _ in range(COUNT)]
    requests = [UploadRequested(upload_event(1).position, each, f"uploads/{each}", "gone") for each in ids]
    taken = await take(spreading(catalog, COUNT), *requests)
    [job_id] = taken.jobs
    path = tmp_path / "damaged.db"
    settle(tmp_path / "catalog.db")
    path.write_bytes((tmp_path / "catalog.db").read_bytes())
    zero(path, page_with(path, f"uploads/{ids[0]}"))
    return path, job_id, ids


async def test_a_batch_goes_on_with_the_uploads_whose_rows_can_be_read(
    damaged: tuple[Path, str, list[UUID]], blobs: Storage
) -> None:
    path, job_id, ids = damaged
    async with open_catalog(url_of(path)) as catalog:
        nobody = cast(Sandbox, SimpleNamespace(has_decoders=True))  # a recipe that is gone decodes nothing
        batch = ids[:: COUNT // BATCH]
        report = await process_uploads(batch, job_id, batch_context(catalog, blobs, nobody))

        assert report.outcomes["failed"] > BATCH / 2
        assert 0 < report.outcomes["unrecorded"] < BATCH / 2
        assert report.outcomes.total() == BATCH
        assert ids[0] in report.left_over
        assert catalog.database.condition.damage is not None


async def test_outcomes_that_share_a_transaction_with_one_that_cannot_be_written_are_written(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "PAUSES_S", ())
    ids = [UUID(int=number) for number in range(COUNT)]  # so that indexes have them pages apart, too
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    waiting = [await claim(catalog, each) for each in (ids[0], *ids[-3:])]
    path = tmp_path / "damaged.db"
    settle(tmp_path / "catalog.db")
    path.write_bytes((tmp_path / "catalog.db").read_bytes())
    zero(path, page_with(path, f"uploads/{ids[0]}"))
    async with open_catalog(url_of(path)) as half:
        group = Committer(half.claims, expected=lambda: True, on_committed=lambda _: None)
        submitted = [group.submit(failed(each)) for each in waiting]
        first, _, *last = await asyncio.gather(*submitted, return_exceptions=True)
        await asyncio.wait(group._flushing or {asyncio.create_task(asyncio.sleep(0))})

    assert isinstance(first, CatalogDamaged)
    assert [each.state for each in last if isinstance(each, Committed)] == [State.FAILED] * 2
