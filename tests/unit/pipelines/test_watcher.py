"""Originals that are still being written, or come after their event: each upload is due in time."""

import asyncio
import io
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from pipelines import watcher as watchers
from pipelines.batch import BatchContext, Classify, process_uploads
from pipelines.batch_report import BatchReport
from pipelines.sandbox import Sandbox, open_sandbox
from pipelines.watcher import OriginalWatcher
from storage.blobs import BlobInfo, Existence
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog
from storage.catalog.records import Message, State
from tests.support import pictures
from tests.support.batches import Uploads, batch_context
from tests.support.blobs import chunks, info_of, stat_of
from tests.support.catalogs import commit, dispatch, outbox_of, postponed, ready
from tests.support.sandboxes import allowance
from worker import retry
from worker.retry import classify

SETTLE_S = 1.5
PICTURE = pictures.small()
HALF = len(PICTURE) // 2


class Shop:
    """Works on uploads as a worker does, their jobs included."""

    def __init__(
        self, catalog: Catalog, uploads: Uploads, parts: Callable[[OriginalWatcher], BatchContext]
    ) -> None:
        self.catalog, self.uploads = catalog, uploads
        self.watcher = OriginalWatcher(uploads.blobs, self._make_due, self._again, SETTLE_S)
        self._context = parts(self.watcher)
        self.due: asyncio.Queue[tuple[list[UUID], str]] = asyncio.Queue()
        self.jobs: dict[str, list[UUID]] = {}
        self.reports: list[BatchReport] = []

    async def _make_due(self, ids: Sequence[UUID]) -> None:
        for job_id in await self.catalog.claims.make_due(ids):
            self.due.put_nowait((self.jobs[job_id], job_id))

    async def _again(self, made: Mapping[UUID, int]) -> None:
        await self.catalog.requeuer.requeue_made(made)
        for job_id, ids in (await dispatch(self.catalog)).items():
            self.due.put_nowait((list(ids), job_id))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            ids, job_id = await self.due.get()
            self.jobs.setdefault(job_id, ids)
            report = await process_uploads(ids, job_id, self._context)
            self.reports.append(report)
            if report.due_in_ms is not None:
                loop.call_later(report.due_in_ms / 1000, self.due.put_nowait, (report.left_over, job_id))

    async def announce(self, name: str) -> UUID:
        upload_id = await self.uploads.announce(name)
        self.due.put_nowait(([upload_id], await self.uploads.job_id(upload_id)))
        return upload_id

    async def reported(self, count: int) -> list[BatchReport]:
        async with asyncio.timeout(20):
            while len(self.reports) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.reports

    async def outcome(self) -> tuple[State, str | None, int]:
        [message] = await self.messages(1)
        return message.kind, message.error_code, message.attempts

    async def messages(self, count: int) -> Sequence[Message]:
        async with asyncio.timeout(20):
            while len(messages := await outbox_of(self.catalog)) < count:  # noqa: ASYNC110 (another's work is no event)
                await asyncio.sleep(0.02)
        return messages


@pytest.fixture
def blobs(local_blobs: LocalBlobs) -> LocalBlobs:
    """Files: only they are written little by little."""
    return local_blobs


@pytest.fixture
async def context(
    catalog: Catalog,
    local_blobs: LocalBlobs,
    sandbox: Sandbox,
    uploads: Uploads,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Shop]:
    async with opened(catalog, local_blobs, sandbox, uploads, monkeypatch) as context:
        yield context


@pytest.fixture
async def accepting(
    catalog: Catalog, local_blobs: LocalBlobs, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    """A shop that takes damaged pictures."""
    async with (
        open_sandbox(replace(allowance(), accept_damaged=True)) as sandbox,
        opened(catalog, local_blobs, sandbox, uploads, monkeypatch) as context,
    ):
        yield context


@asynccontextmanager
async def opened(
    catalog: Catalog,
    local_blobs: LocalBlobs,
    sandbox: Sandbox,
    uploads: Uploads,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Shop]:
    monkeypatch.setattr(watchers, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(watchers, "SETTLED_S", 0.2)
    classified_by = partial(classify, max_attempts=8, settle_ms=int(SETTLE_S * 1000))
    context = Shop(catalog, uploads, partial(_made, catalog, local_blobs, sandbox, classified_by))
    tasks = [asyncio.create_task(context.run()), asyncio.create_task(context.watcher.run())]
    yield context
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _made(
    catalog: Catalog, blobs: LocalBlobs, sandbox: Sandbox, classified_by: Classify, watcher: OriginalWatcher
) -> BatchContext:
    return replace(batch_context(catalog, blobs, sandbox, classified_by=classified_by), watcher=watcher)


# -- the ways in which apps write a file in place


async def steadily(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(PICTURE), len(PICTURE) // 12):
            file.write(PICTURE[start : start + len(PICTURE) // 12])
            await asyncio.sleep(0.1)


async def slowly(path: Path) -> None:
    """For longer than a file has to be still."""
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(PICTURE), len(PICTURE) // 20):
            file.write(PICTURE[start : start + len(PICTURE) // 20])
            await asyncio.sleep(0.15)


async def in_halves(path: Path) -> None:
    path.write_bytes(PICTURE[:HALF])
    await asyncio.sleep(0.6)
    with path.open("ab") as file:
        file.write(PICTURE[HALF:])


async def empty_first(path: Path) -> None:
    path.touch()
    await asyncio.sleep(0.6)
    path.write_bytes(PICTURE)


async def with_its_room_first(path: Path) -> None:
    path.write_bytes(bytes(len(PICTURE)))
    await asyncio.sleep(0.6)
    with path.open("r+b") as file:
        file.write(PICTURE)


async def long_after_its_event(path: Path) -> None:
    await asyncio.sleep(0.6)
    await in_halves(path)


Writer = Callable[[Path], "asyncio.Future[None]"]


@pytest.mark.parametrize(
    "write", [steadily, slowly, in_halves, empty_first, with_its_room_first, long_after_its_event]
)
@pytest.mark.rotating(3)
async def test_a_file_that_is_still_being_written_is_ready_when_it_is_whole(
    context: Shop, write: Writer
) -> None:
    path = context.uploads.path("cat.jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = asyncio.ensure_future(write(path))
    await asyncio.sleep(0.05)
    upload_id = await context.announce("cat.jpg")
    outcome = await context.outcome()
    await writing

    assert outcome == (State.READY, None, 0)
    found = await context.catalog.reports.find(upload_id)
    assert found is not None
    assert found.original is not None
    assert found.original.bytes == len(PICTURE)


async def test_a_damaged_file_that_was_just_written_is_refused_when_it_has_settled(context: Shop) -> None:
    await context.uploads.blobs.put("uploads/cat.jpg", chunks(PICTURE[:HALF]))
    began = time.monotonic()
    await context.announce("cat.jpg")

    assert await context.outcome() == (State.FAILED, "corrupt_image", 1)
    assert time.monotonic() - began > SETTLE_S - 0.2
    assert len(await context.reported(2)) == 2


@pytest.mark.parametrize("content", [PICTURE[:HALF], None], ids=["damaged", "missing"])
async def test_a_wait_that_a_leap_of_the_clock_cuts_short_is_waited_to_its_end(
    context: Shop, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content:
        await context.uploads.blobs.put("uploads/cat.jpg", chunks(content))
    monkeypatch.setattr(retry, "MISSING_FOR_MS", int(SETTLE_S * 1000))
    began = time.monotonic()
    upload_id = await context.announce("cat.jpg")
    await context.reported(1)
    await context._make_due([upload_id])  # as if the clock had leapt to the end of the wait
    kind, code, _ = await context.outcome()

    assert (kind, code) == (State.FAILED, "corrupt_image" if content else "source_missing")
    assert time.monotonic() - began > SETTLE_S - 0.6


async def test_a_file_that_is_no_picture_is_refused_at_once(context: Shop) -> None:
    await context.uploads.blobs.put("uploads/cat.jpg", chunks(b"%PDF-1.7 and what follows in a document"))
    await context.announce("cat.jpg")

    assert await context.outcome() == (State.FAILED, "unsupported_format", 1)
    assert len(await context.reported(1)) == 1


async def test_a_file_that_comes_after_its_event_is_worked_on_when_it_is_there(context: Shop) -> None:
    upload_id = await context.announce("cat.jpg")
    await context.reported(1)
    began = time.monotonic()
    await context.uploads.blobs.put("uploads/cat.jpg", chunks(PICTURE))

    assert await context.outcome() == (State.READY, None, 0)
    assert time.monotonic() - began < 5
    assert [report.left_over for report in await context.reported(2)] == [[upload_id], []]


# -- half of a picture that is one, too


def picture(kind: str) -> bytes:
    """A picture whose second half, of zeros, decodes as well."""
    file = io.BytesIO()
    Image.frombytes("L", (300, 200), random.Random(1).randbytes(300 * 200)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
@pytest.mark.rotating(2)
async def test_a_picture_that_was_ready_before_it_was_whole_is_made_again_when_it_is(
    context: Shop, kind: str
) -> None:
    whole = picture(kind)
    half = whole[: len(whole) // 2]
    path = context.uploads.path("cat")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(half + bytes(len(whole) - len(half)))
    await context.announce("cat")
    [first] = await context.messages(1)
    with path.open("r+b") as file:
        file.write(whole)
    _, second = await context.messages(2)

    assert (first.kind, second.kind) == (State.READY, State.READY)
    assert second.seq > first.seq
    assert second.original is not None
    assert second.original.sha256 == sha256(whole).hexdigest()
    assert {one.key for one in first.variants} & {one.key for one in second.variants} == set()


async def test_half_a_picture_that_is_accepted_is_made_again_when_the_rest_has_come(
    accepting: Shop,
) -> None:
    whole = picture("PNG")
    path = accepting.uploads.path("cat")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole[: len(whole) // 2])
    await accepting.announce("cat")
    [first] = await accepting.messages(1)
    with path.open("r+b") as file:
        file.write(whole)
    second = (await accepting.messages(2))[1]

    assert (first.kind, second.kind) == (State.READY, State.READY)
    assert second.original is not None
    assert second.original.bytes == len(whole)


class CountedStats:
    """Blobs whose looks are counted."""

    def __init__(self, blobs: LocalBlobs) -> None:
        self._blobs, self.looks = blobs, 0

    async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        self.looks += len(keys)
        return await self._blobs.stat(keys)


Change = Callable[[Path], object]
NO_WRITING: dict[str, Change] = {
    "nothing": lambda path: None,
    "another name": lambda path: path.rename(path.with_name("b")),
    "another mode": lambda path: path.chmod(0o600),
    "a link": lambda path: path.with_name("b").hardlink_to(path),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", NO_WRITING)
async def test_a_ready_upload_costs_two_looks_at_most_and_no_second_try_unless_it_is_written_to(
    local_blobs: LocalBlobs, uploads: Uploads, change: str
) -> None:
    repeated: list[Mapping[UUID, int]] = []

    async def again(made: Mapping[UUID, int]) -> None:
        repeated.append(made)

    await uploads.put("a", b"a")
    blobs = CountedStats(local_blobs)
    watcher = OriginalWatcher(blobs, nobody, again, settle_s=0.05)
    watcher.watch_made(await uploads.claim("a"), "uploads/a", await info_of(local_blobs, "uploads/a"))
    NO_WRITING[change](uploads.path("a"))
    while watcher.made:
        await watcher.poll_made()
        await asyncio.sleep(0)

    assert 1 <= blobs.looks <= 2
    assert repeated == []


async def test_an_original_that_was_written_long_ago_is_not_polled_once_it_is_ready(
    local_blobs: LocalBlobs, uploads: Uploads
) -> None:
    await uploads.put("a", b"a")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(uploads.path("a"), (two_days_ago, two_days_ago))
    watcher = OriginalWatcher(local_blobs, nobody, nobody, settle_s=10)
    watcher.watch_made(await uploads.claim("a"), "uploads/a", await info_of(local_blobs, "uploads/a"))

    assert watcher.made == 0


async def test_a_host_whose_clock_is_ahead_takes_no_upload_for_one_that_never_settles(
    catalog: Catalog, local_blobs: LocalBlobs, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    await uploads.put("a", b"a")
    await commit(catalog, ready(await uploads.claim("a")))
    await uploads.announce("a")
    again = await uploads.claim("a")
    an_hour_later_ns = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr("storage.catalog.clock.wall_ns", lambda: an_hour_later_ns)
    watcher = OriginalWatcher(local_blobs, nobody, nobody, settle_s=10)
    watcher.watch_made(again, "uploads/a", await info_of(local_blobs, "uploads/a"))

    assert watcher.made == 1


async def test_what_another_has_done_since_is_not_done_again(catalog: Catalog, uploads: Uploads) -> None:
    upload_id = await uploads.announce("cat.jpg")
    made = await uploads.claim("cat.jpg")
    await commit(catalog, ready(made))
    before = await catalog.requeuer.requeue_made({upload_id: made.token - 1})
    now = await catalog.requeuer.requeue_made({upload_id: made.token})
    found = await catalog.reports.find(upload_id)

    assert found is not None
    assert (before, now) == ([], [upload_id])
    assert (found.state, found.queued_ms) == (State.QUEUED, made.upload.queued_ms)


async def nobody(_: object) -> None:
    """Has nothing to do."""


# -- the watcher alone


async def test_a_file_that_is_as_it_was_seen_makes_nothing_due(local_blobs: LocalBlobs) -> None:
    made_due: list[UUID] = []

    async def make_due(ids: Sequence[UUID]) -> None:
        made_due.extend(ids)

    await local_blobs.put("uploads/a", chunks(b"a"))
    seen = await stat_of(local_blobs, "uploads/a")
    assert isinstance(seen, BlobInfo)
    watcher = OriginalWatcher(local_blobs, make_due)
    same, other, over = UUID(int=1), UUID(int=2), UUID(int=3)
    watcher.watch(same, "uploads/a", seen, 60)
    watcher.watch(other, "uploads/a", Existence.MISSING, 60)
    watcher.watch(over, "uploads/a", Existence.MISSING, 0)
    await watcher.poll()

    assert made_due == [other]


@pytest.mark.parametrize("upload_id", [UUID(int=1), UUID(int=2)], ids=["the same upload", "another"])
async def test_what_is_watched_while_the_originals_are_polled_is_polled_next_time(
    local_blobs: LocalBlobs, upload_id: UUID
) -> None:
    made_due: list[UUID] = []

    async def make_due(ids: Sequence[UUID]) -> None:
        made_due.extend(ids)

    class Meanwhile:
        """Blobs that are looked at while somebody else puts an upload off."""

        async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
            found = await local_blobs.stat(keys)
            if "uploads/b" not in keys:
                watcher.watch(upload_id, "uploads/b", Existence.MISSING, 60)
            return found

    await local_blobs.put("uploads/a", chunks(b"a"))
    await local_blobs.put("uploads/b", chunks(b"b"))
    watcher = OriginalWatcher(Meanwhile(), make_due)
    watcher.watch(UUID(int=1), "uploads/a", Existence.MISSING, 60)
    await watcher.poll()
    first = list(made_due)
    await watcher.poll()

    assert first == ([] if upload_id == UUID(int=1) else [UUID(int=1)])
    assert made_due == [*first, upload_id]


async def test_an_upload_is_made_due_only_while_it_is_put_off(catalog: Catalog, uploads: Uploads) -> None:
    upload_id = await uploads.announce("cat.jpg")
    job_id = await uploads.job_id(upload_id)
    early = await catalog.claims.make_due([upload_id])
    await commit(catalog, postponed(await uploads.claim("cat.jpg")))

    assert early == []
    assert await catalog.claims.make_due([upload_id]) == [job_id]
    assert await uploads.job_id(upload_id) == job_id


async def test_what_is_put_off_stays_with_its_job_when_another_of_it_is_made_due(
    context: Shop, uploads: Uploads
) -> None:
    first, second = await uploads.announce("first.jpg"), await uploads.announce("second.jpg")
    stalled = await context.catalog.requeuer.overdue(-1000, 9)
    await context.catalog.requeuer.requeue_stalled(stalled)
    [both] = await dispatch(context.catalog)
    context.due.put_nowait(([first, second], both))
    await context.reported(1)
    await uploads.blobs.put("uploads/first.jpg", chunks(PICTURE))
    await context.outcome()

    assert [set(report.left_over) for report in await context.reported(2)] == [{first, second}, {second}]
    assert 5_000 < (context.reports[1].due_in_ms or 0) <= 10_000
