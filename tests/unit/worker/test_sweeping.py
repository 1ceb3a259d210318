"""Who sweeps here, whether somebody who did has surely ended, and when nobody may."""

import os
import subprocess
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from storage.catalog import Catalog
from storage.catalog.clock import now_ms
from storage.catalog.records import StreamId, UploadRequested
from storage.catalog.tables import totals
from tests.support.catalogs import CAT, SOURCE, delete_event, take, upload_event, work
from worker.sweeping import REBUILD, forbidden, holder_of, is_dead

FOUND = uuid4()


def adopted_upload() -> UploadRequested:
    """An original that a rebuild has found."""
    return UploadRequested(StreamId(), FOUND, SOURCE, "default", adopted=True)


@pytest.fixture
def ended() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_a_process_that_has_ended_is_dead_and_one_that_runs_is_not(ended: int) -> None:
    assert [is_dead(holder_of(pid)) for pid in (ended, os.getpid(), 1)] == [True, False, False]


def test_nobody_knows_whether_a_process_of_another_container_has_ended(
    ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = holder_of(ended)
    monkeypatch.setattr(os, "readlink", lambda _path: "pid:[4026532999]")  # as it is in there
    there = holder_of(ended)
    judged_there = is_dead(here)
    monkeypatch.undo()

    assert (is_dead(here), is_dead(there), judged_there) == (True, False, False)


def test_where_namespaces_cannot_be_told_apart_nobody_is_surely_dead(
    ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_path: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "readlink", unknown)

    assert not is_dead(holder_of(ended))


@pytest.mark.parametrize("holder", ["", "me", f"{os.uname().nodename}:1:abc", "a:b:c:d"])
def test_who_is_not_known_is_not_dead(holder: str) -> None:
    assert not is_dead(holder)


async def test_a_rebuild_forbids_sweeps_until_all_its_originals_are_done_with(catalog: Catalog) -> None:
    never = await forbidden(catalog)
    await catalog.walks.begun(REBUILD)
    under_way = await forbidden(catalog)
    await take(catalog, upload_event(1))
    await catalog.walks.ended(REBUILD)
    waits = await forbidden(catalog)
    await work(catalog)
    over = await forbidden(catalog)

    assert (never, over) == (None, None)
    assert under_way == "a rebuild is under way, and 0 uploads still wait"
    assert waits == "a rebuild is under way, and 1 uploads still wait"


async def test_wrong_totals_do_not_allow_what_a_rebuild_forbids(catalog: Catalog) -> None:
    await catalog.walks.begun(REBUILD)
    await take(catalog, upload_event(1))
    await catalog.walks.ended(REBUILD)
    async with catalog.database.writing() as connection:
        await connection.execute(update(totals).values(files=0))

    assert await forbidden(catalog) == "a rebuild is under way, and 1 uploads still wait"


async def test_uploads_that_came_after_a_rebuild_hold_up_no_sweep(catalog: Catalog) -> None:
    await take(catalog, adopted_upload())
    await work(catalog, FOUND)
    await catalog.walks.ended(REBUILD)
    await take(catalog, upload_event(1, source="uploads/new.jpg"), upload_event(2, FOUND))

    assert await forbidden(catalog) is None


@pytest.mark.parametrize("upload_id", [FOUND, CAT], ids=["same id", "another id"])
async def test_originals_of_a_rebuild_that_are_announced_again_still_forbid_sweeps(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, upload_id: UUID
) -> None:
    await take(catalog, adopted_upload())
    monkeypatch.setattr("storage.catalog.walks.now_ms", lambda: now_ms() - 1000)
    await catalog.walks.ended(REBUILD)
    await take(catalog, upload_event(1, upload_id))
    waits = await forbidden(catalog)
    await work(catalog, FOUND)
    await work(catalog, upload_id)

    assert waits == "a rebuild is under way, and 1 uploads still wait"
    assert await forbidden(catalog) is None


async def test_an_original_of_a_rebuild_that_is_wanted_again_while_it_is_deleted_forbids_sweeps(
    catalog: Catalog,
) -> None:
    await take(catalog, adopted_upload())
    await catalog.walks.ended(REBUILD)
    await take(catalog, delete_event(1, FOUND))
    unwanted = await forbidden(catalog)
    await take(catalog, upload_event(2, FOUND))

    assert unwanted is None
    assert await forbidden(catalog) == "a rebuild is under way, and 1 uploads still wait"
