"""While no decoder can be started: an outage of the machine's, which counts against no upload."""

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from pipelines import outage
from pipelines.batch import BatchContext, process_uploads
from pipelines.errors import DecoderUnavailable
from pipelines.sandbox import Sandbox, open_sandbox
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.errors import CatalogUnavailable
from storage.threads import start_threads
from tests.support import cgroups
from tests.support.batches import Uploads, batch_context
from tests.support.catalogs import dispatch
from tests.support.sandboxes import ROGUE, allowance, bitmap, children, jpeg, render
from worker.health import check_decoders

UPLOADS, SLOTS = 6, 4


class Release:
    """A program of decoders in a folder of its own, with what can happen to it under a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "release"
        self.folder.mkdir()
        self.program = self.folder / "rogue_decoder.py"
        shutil.copy(ROGUE[-1], self.program)
        self.python = self.folder / "python"
        self.python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        self.python.chmod(0o755)
        self.command = (str(self.python), "-I", str(self.program), "starts")

    @contextmanager
    def gone(self) -> Iterator[None]:
        """The folder is removed."""
        aside = self.folder.rename(self.folder.with_name("removed"))
        yield
        aside.rename(self.folder)

    @contextmanager
    def without_interpreter(self) -> Iterator[None]:
        """Only the interpreter is removed."""
        aside = self.python.rename(self.python.with_name("removed"))
        yield
        aside.rename(self.python)

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Another version of the program lies there, which greets in another way."""
        before = self.program.read_text()
        self.program.write_text(before.replace('"hello": 1', '"hello": 2'))
        yield
        self.program.write_text(before)

    @contextmanager
    def broken(self) -> Iterator[None]:
        """A library that the program needs is removed."""
        before = self.program.read_text()
        self.program.write_text("import a_library_that_is_gone\n" + before)
        yield
        self.program.write_text(before)

    @contextmanager
    def crowded(self, *pids: int) -> Iterator[None]:
        """The machine allows this process, and those, no further process."""
        try:
            with cgroups.no_more_threads(*pids):
                yield
        except cgroups.NoCgroupsError as error:
            pytest.skip(str(error))


WAYS: dict[Callable[[Release], AbstractContextManager[None]], str] = {
    Release.gone: "Was the program replaced or removed? Restart the worker",
    Release.without_interpreter: "Was the program replaced or removed? Restart the worker",
    Release.replaced: "of another version than this worker. Was the program replaced",
    Release.broken: "No module named 'a_library_that_is_gone'",
    Release.crowded: "Raise the limit of processes and threads",
}
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    monkeypatch.setattr(outage, "_FIRST_PAUSE_S", 0.8)
    return Release(tmp_path)


async def work_off(catalog: Catalog, context: BatchContext) -> None:
    """Do what jobs do with all uploads that are due."""
    stalled = await catalog.requeuer.overdue(-1000, 10_000)
    await catalog.requeuer.requeue_stalled(stalled)
    for job_id, ids in (await dispatch(catalog)).items():
        try:
            await process_uploads(ids, job_id, context)
        except* CatalogUnavailable:
            pass  # the job comes back


async def states(catalog: Catalog, ids: Sequence[UUID]) -> list[tuple[State, int, int]]:
    found = [await catalog.reports.find(each) for each in ids]
    return [(one.state, one.attempts, one.claims) for one in found if one is not None]


@ways
@pytest.mark.rotating(2)
async def test_while_no_decoder_can_be_started_no_upload_fails_and_all_are_ready_afterwards(
    way: Callable[[Release], AbstractContextManager[None]],
    release: Release,
    catalog: Catalog,
    blobs: Storage,
    uploads: Uploads,
) -> None:
    ids = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(UPLOADS)]
    sandbox = Sandbox(allowance(), release.command)
    context = batch_context(catalog, blobs, sandbox, slots=SLOTS)
    is_well = check_decoders(context.decoder_outage, sandbox)
    await start_threads(1)
    await asyncio.gather(*(states(catalog, ids) for _ in range(10)))  # each connection has a thread, too
    with way(release):
        await work_off(catalog, context)
        tried = sum(claims for _, _, claims in await states(catalog, ids))
        await work_off(catalog, context)
        waiting = await states(catalog, ids)
        red = await is_well()
    assert WAYS[way] in (red or "")
    assert {(state, attempts) for state, attempts, _ in waiting} == {(State.QUEUED, 0)}
    assert sum(claims for _, _, claims in waiting) == tried <= SLOTS  # nothing in the pause
    assert await catalog.poison.all("test") == []

    async with asyncio.timeout(10):
        while await is_well():  # noqa: ASYNC110 (time that passes is no event)
            await asyncio.sleep(0.05)
        while {state for state, _, _ in await states(catalog, ids)} != {State.READY}:
            await work_off(catalog, context)

    await sandbox.pool.close()
    assert [attempts for _, attempts, _ in await states(catalog, ids)] == [0] * UPLOADS


async def test_decoders_that_live_go_on_while_no_other_can_be_started(
    release: Release, catalog: Catalog, blobs: Storage, uploads: Uploads
) -> None:
    other_kind = await uploads.put("a.bmp", bitmap())
    mine = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(UPLOADS)]
    async with open_sandbox(allowance(), release.command) as sandbox:
        context = batch_context(catalog, blobs, sandbox)
        await start_threads(1)
        await asyncio.gather(*(states(catalog, mine) for _ in range(10)))  # each connection has a thread, too
        assert sandbox.pool._server is not None
        with release.crowded(sandbox.pool._server.pid):
            await work_off(catalog, context)
            await work_off(catalog, context)
            red = await check_decoders(context.decoder_outage, sandbox)()

    assert red is not None
    assert [state for state, _, _ in await states(catalog, mine)] == [State.READY] * UPLOADS
    assert [found[:2] for found in await states(catalog, [other_kind])] == [(State.QUEUED, 0)]


async def test_while_every_place_is_taken_the_health_is_what_is_known_and_waits_for_nobody(
    release: Release,
) -> None:
    async with open_sandbox(allowance(), release.command) as sandbox:
        struck = outage.Outage(sandbox, DecoderUnavailable)
        with release.broken():
            await sandbox.pool.close()
            assert await struck.confirm()
        struck._until = 0
        is_well = check_decoders(struck, sandbox)
        async with AsyncExitStack() as busy, asyncio.timeout(5):
            for _ in range(sandbox.admission.slots.count):
                await busy.enter_async_context(sandbox.admission.slots.one())
            known = await is_well()

        assert "a_library_that_is_gone" in (known or "")
        assert await is_well() is None


async def test_many_uploads_that_ask_at_once_start_one_decoder_as_a_test(release: Release) -> None:
    async with open_sandbox(allowance(), release.command) as sandbox:
        before = set(children())
        struck = outage.Outage(sandbox, DecoderUnavailable)

        assert not any(await asyncio.gather(*(struck.confirm() for _ in range(10))))

        assert len(set(children()) - before) <= 1


async def test_a_decoder_that_was_started_as_a_test_takes_nobodys_room(release: Release) -> None:
    async with open_sandbox(allowance(), release.command) as sandbox:
        for _ in range(3):
            await sandbox.probe()
        await render(sandbox, jpeg())

        assert len(children()) == 1
