"""Many uploads: each ends in an outcome of its own, none is claimed too early, and a stop loses nothing."""

import asyncio
import errno
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, update

from pipelines import batch, commits
from pipelines.batch import DELETE_AGAIN_MS, RUN_ALONE_AFTER, BatchContext, _claim, process_uploads
from pipelines.batch_report import BatchReport
from pipelines.recipe import DEFAULT, Recipe, Variant
from pipelines.sandbox import Sandbox, open_sandbox
from pipelines.sandbox.groups import SMALL_BYTES
from pipelines.slots import Slots
from pipelines.traces import Traces, TryTrace
from storage.blobs import Storage
from storage.catalog import clock
from storage.catalog.opening import Catalog
from storage.catalog.records import (
    Claim,
    DeletionRequested,
    Failed,
    OriginalFate,
    State,
    StreamId,
    Upload,
)
from storage.catalog.tables import uploads as rows
from storage.errors import CatalogUnavailable, user
from tests.support.batches import Uploads, batch_context, on_one_job
from tests.support.blobs import on_both, on_files
from tests.support.catalogs import outbox_of, take, transactions, upload_event
from tests.support.polling import until
from tests.support.sandboxes import ROGUE, allowance, jpeg, ordered

MAX_ATTEMPTS = 8  # of `batch_context`


@pytest.fixture
def context(catalog: Catalog, blobs: Storage, sandbox: Sandbox) -> BatchContext:
    return batch_context(catalog, blobs, sandbox)


async def process(catalog: Catalog, ids: list[UUID], context: BatchContext) -> BatchReport:
    return await process_uploads(ids, await on_one_job(catalog, ids), context)


async def found(catalog: Catalog, upload_id: UUID) -> Upload:
    upload = await catalog.reports.find(upload_id)
    assert upload is not None
    return upload


# -- outcomes


@on_both
@pytest.mark.rotating(1)
async def test_bad_pictures_among_good_ones_cost_only_themselves(
    catalog: Catalog, blobs: Storage, uploads: Uploads
) -> None:
    bad = {7: b"", 41: b"no picture at all", 90: jpeg()[:200]}
    ids = [await uploads.put(f"{n}.jpg", bad.get(n, jpeg(20 + n, 30))) for n in range(100)]
    async with open_sandbox(allowance(decoders=2)) as sandbox:
        report = await process(catalog, ids, batch_context(catalog, blobs, sandbox))

    assert report.outcomes == Counter(ready=97, failed=3)
    assert {each for each, _, _ in report.failures} == {ids[n] for n in bad}
    assert len(await uploads.variants()) == 97 * 3
    assert Counter(message.kind for message in await outbox_of(catalog)) == Counter(ready=97, failed=3)


async def test_a_failed_upload_says_why_in_catalog_message_and_report(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.pdf", b"%PDF-1.7")
    report = await process(catalog, [upload_id], context)

    upload = await found(catalog, upload_id)
    [message] = await outbox_of(catalog)
    assert (upload.state, upload.error_code, upload.attempts) == (State.FAILED, "unsupported_format", 1)
    assert (message.error_code, message.error_message) == (upload.error_code, upload.error_message)
    assert report.failures == [(upload_id, upload.error_code, upload.error_message)]


async def test_what_a_batch_did_takes_few_transactions(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    ids = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(12)]
    job_id = await on_one_job(catalog, ids)
    with transactions(catalog) as seen:
        await process_uploads(ids, job_id, context)

    assert seen.count("BEGIN IMMEDIATE") == seen.count("COMMIT")
    assert 2 <= seen.count("COMMIT") <= 12


async def test_a_report_adds_up_what_each_stage_took(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    ids = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(3)]
    report = await process(catalog, ids, context)

    assert {"wait", "read", "decode", "encode", "publish", "upload", "commit"} <= report.ms.keys()
    assert report.ms["upload"] >= report.ms["decode"] > 0


async def test_a_missing_source_is_looked_for_again_at_first(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.announce("late.jpg")
    report = await process(catalog, [upload_id], context)

    upload = await found(catalog, upload_id)
    assert (upload.state, upload.attempts, upload.error_code) == (State.QUEUED, 0, "source_missing")
    assert report.left_over == [upload_id]
    assert 9_000 < (report.due_in_ms or 0) <= 10_000


async def test_a_recipe_that_is_gone_fails_in_words(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg(), recipe="posters")
    await process(catalog, [upload_id], context)

    upload = await found(catalog, upload_id)
    assert (upload.error_code, upload.error_message) == (
        "unknown_recipe",
        "There is no recipe 'posters' any more.",
    )


async def test_uploads_follow_their_own_recipe(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    recipes = {"default": DEFAULT, "icons": Recipe("icons", [Variant("icon", 16)])}
    cat = await uploads.put("cat.jpg", jpeg())
    dog = await uploads.put("dog.jpg", jpeg(), recipe="icons")
    await process(catalog, [cat, dog], batch_context(catalog, blobs, sandbox, recipes=recipes))

    assert [len((await found(catalog, each)).variants) for each in (cat, dog)] == [3, 1]


# -- whose turn it is


async def test_uploads_of_another_job_are_skipped(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    report = await process_uploads([upload_id], "an older job", context)

    assert report.outcomes == Counter(skipped=1)
    assert (await found(catalog, upload_id)).claims == 0


async def test_an_upload_that_has_become_due_while_others_were_in_work_is_left_to_the_job(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = 0

    def an_hour_later(error: Exception, claim: Claim) -> Failed:
        nonlocal later
        later = 3_600 * 10**9
        return Failed(claim, "corrupt_image", str(error))

    monkeypatch.setattr(clock, "wall_ns", lambda: time.time_ns() + later)
    one_by_one = batch_context(catalog, blobs, sandbox, classified_by=an_hour_later, slots=1)
    early, bad = await uploads.announce("late.jpg"), await uploads.put("bad.jpg", b"bad")
    job_id = await on_one_job(catalog, [early, bad])
    await postpone(catalog, early, ms=60_000)
    report = await process_uploads([early, bad], job_id, one_by_one)

    assert report.outcomes == Counter(skipped=1, failed=1)
    assert (report.left_over, report.due_in_ms) == ([early], 0)


async def postpone(catalog: Catalog, upload_id: UUID, ms: int) -> None:
    due_ms = catalog.database.now_ms() + ms
    async with catalog.database.writing() as connection:
        await connection.execute(update(rows).where(rows.c.id == str(upload_id)).values(not_before_ms=due_ms))


async def test_a_stop_leaves_what_was_not_begun_untouched(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    def stop(error: Exception, claim: Claim) -> Failed:
        one_by_one.stopping.set()
        return Failed(claim, "corrupt_image", str(error))

    one_by_one = batch_context(catalog, blobs, sandbox, classified_by=stop, slots=1)
    ids = [await uploads.put(f"{n}.jpg", jpeg() if n != 2 else b"bad") for n in range(6)]
    report = await process(catalog, ids, one_by_one)

    assert report.outcomes == Counter(ready=2, failed=1)
    assert (report.left_over, report.due_in_ms) == (ids[3:], 0)
    assert [(await found(catalog, each)).claims for each in ids] == [1, 1, 1, 0, 0, 0]


async def test_a_batch_takes_no_new_upload_after_30_seconds_and_hands_the_rest_back(
    catalog: Catalog,
    blobs: Storage,
    sandbox: Sandbox,
    uploads: Uploads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    monkeypatch.setattr("pipelines.batch.time", clock)

    def half_a_minute_later(error: Exception, claim: Claim) -> Failed:
        now[0] = 30.1
        return Failed(claim, "corrupt_image", str(error))

    slow = batch_context(catalog, blobs, sandbox, classified_by=half_a_minute_later, slots=1)
    ids = [await uploads.put(f"{n}.jpg", jpeg() if n != 2 else b"bad") for n in range(6)]
    report = await process(catalog, ids, slow)

    assert report.outcomes == Counter(ready=2, failed=1)
    assert (report.left_over, report.due_in_ms) == (ids[3:], 0)
    assert [(await found(catalog, each)).claims for each in ids] == [1, 1, 1, 0, 0, 0]


class StopOnceClaimed(Traces):
    """Stops the worker as soon as an upload is claimed."""

    stopping: asyncio.Event

    @contextmanager
    def trying(self, claim: Claim, **times: float) -> Iterator[TryTrace]:
        self.stopping.set()
        yield TryTrace(claim)


@pytest.mark.parametrize("why", ["the worker stops", "the time of the job is up"])
async def test_an_upload_that_gets_no_room_in_time_is_left_over_as_if_never_claimed(
    catalog: Catalog,
    blobs: Storage,
    sandbox: Sandbox,
    uploads: Uploads,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    traces = StopOnceClaimed() if why == "the worker stops" else Traces()
    context = replace(batch_context(catalog, blobs, sandbox), traces=traces)
    traces.stopping = context.stopping  # type: ignore[attr-defined]
    monkeypatch.setattr(batch, "NEW_WORK_S", 30 if why == "the worker stops" else 0.3)
    upload_id = await uploads.put("large.jpg", jpeg() + bytes(SMALL_BYTES))
    async with AsyncExitStack() as taken:
        for number in range(2 * sandbox.rooms.few):
            await taken.enter_async_context(sandbox.rooms.room(SMALL_BYTES + 1, f"{number % 2}"))
        report = await process(catalog, [upload_id], context)
    left = await found(catalog, upload_id)

    assert (report.outcomes, report.left_over, report.due_in_ms) == (Counter(), [upload_id], 0)
    assert (left.state, left.attempts) == (State.QUEUED, 0)
    assert (await uploads.claim("large.jpg")).crash_count == 0


async def test_a_batch_that_is_cancelled_gives_its_claims_back(
    catalog: Catalog, blobs: Storage, uploads: Uploads
) -> None:
    async def all_taken() -> bool:
        return (await catalog.reports.states())[State.PROCESSING] == 4

    async with open_sandbox(allowance(), (*ROGUE, "starts")) as rogue:
        context = batch_context(catalog, blobs, rogue)
        ids = [await uploads.put(f"{n}.jpg", ordered("hang")) for n in range(6)]
        batch = asyncio.create_task(process(catalog, ids, context))
        await until(all_taken)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch

    assert {(await found(catalog, each)).state for each in ids} == {State.QUEUED}
    other = await catalog.claims.claim(ids[0], await uploads.job_id(ids[0]), "another worker")
    assert other is not None
    assert other.crash_count == 0


async def test_a_cancelled_batch_keeps_what_it_handed_in_and_queues_the_rest(
    catalog: Catalog, blobs: Storage, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "MAX_DELAY_S", 60)  # so that what was handed in waits for the others

    async with open_sandbox(allowance(decoders=2), (*ROGUE, "starts")) as rogue:
        busy = batch_context(catalog, blobs, rogue)

        async def handed_in() -> bool:
            return len(busy.committer._waiting) == 3

        good = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(3)]
        hanging = await uploads.put("hang.jpg", ordered("hang"))
        batch = asyncio.create_task(process(catalog, [*good, hanging], busy))
        await until(handed_in)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch

    assert {(await found(catalog, each)).state for each in good} == {State.READY}
    back = await found(catalog, hanging)
    assert (back.state, back.attempts) == (State.QUEUED, 0)
    assert Counter(message.kind for message in await outbox_of(catalog)) == Counter(ready=3)


async def test_a_batch_that_is_cancelled_while_it_claims_leaves_no_dead_claim(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    job_id = await on_one_job(catalog, [upload_id])
    batch = asyncio.create_task(process_uploads([upload_id], job_id, context))
    at_commits = iter([lambda: False, batch.cancel])  # of the look for its owner, and of its claim
    event.listen(catalog.database._engine.sync_engine, "commit", lambda _: next(at_commits, bool)())
    with pytest.raises(asyncio.CancelledError):
        await batch

    assert (await found(catalog, upload_id)).state is State.QUEUED
    other = await catalog.claims.claim(upload_id, job_id, "another worker")
    assert other is not None
    assert (other.upload.claims, other.crash_count) == (2, 0)


async def test_a_catalog_that_goes_away_stops_the_batch(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    job_id = await on_one_job(catalog, [upload_id])
    async with catalog.database._engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE outbox RENAME TO away")

    with pytest.raises(ExceptionGroup) as stopped:
        await process_uploads([upload_id], job_id, context)
    assert stopped.group_contains(CatalogUnavailable)


@on_files
async def test_a_storage_that_is_down_fails_no_upload(
    catalog: Catalog, uploads: Uploads, context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    ids = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(8)]
    monkeypatch.setattr(os, "fsync", broken)
    await process(catalog, ids, context)

    states = [(await found(catalog, each)).state for each in ids]
    attempts = [(await found(catalog, each)).attempts for each in ids]
    assert set(states) == {State.QUEUED}
    assert sum(attempts) == 0


@on_files
async def test_after_a_pause_a_storage_that_is_still_down_is_tried_with_no_upload(
    catalog: Catalog, uploads: Uploads, context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    now = 100.0
    monkeypatch.setattr("pipelines.outage.time", SimpleNamespace(monotonic=lambda: now))
    ids = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        await process(catalog, ids[:1], context)
        now += 60
        report = await process(catalog, ids[1:], context)
    assert (report.outcomes, len(report.left_over), report.failures) == (Counter(), 2, [])
    now += 60

    assert (await process(catalog, ids[1:], context)).outcomes == Counter(ready=2)


# -- those that kill their workers


@on_files
async def test_an_original_that_may_not_be_read_waits_with_its_path_and_keeps_nobody_waiting(
    catalog: Catalog, uploads: Uploads, context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, fine = await uploads.put("secret.jpg", jpeg()), await uploads.put("fine.jpg", jpeg())
    real = os.open

    def refuse(name: Any, *args: Any, **more: Any) -> int:
        if name == "secret.jpg":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, *args, **more)

    monkeypatch.setattr(os, "open", refuse)
    report = await process(catalog, [secret, fine], context)

    assert report.outcomes == Counter(queued=1, ready=1)
    assert context.outage.pause_ms == 0
    [waiting] = await catalog.failures.waiting(10)
    assert (waiting.id, waiting.attempts) == (secret, 1)
    assert f"{uploads.path('secret.jpg')} cannot be read by the user {user()}" in (
        waiting.error_message or ""
    )
    assert 14_000 < waiting.not_before_ms - waiting.changed_ms < 16_000


async def died(catalog: Catalog, upload_id: UUID, times: int) -> None:
    """So many workers claim the upload and die."""
    job_id = await on_one_job(catalog, [upload_id])
    for number in range(times):
        await catalog.claims.claim(upload_id, job_id, f"dead-{number}")


async def test_an_upload_that_workers_died_with_runs_while_nothing_else_does(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    ids = [await uploads.put(f"{n}.jpg", jpeg()) for n in range(4)]
    await died(catalog, ids[0], RUN_ALONE_AFTER)
    report = await process(catalog, ids, context)

    assert report.outcomes == Counter(ready=4)


async def one_runs_alone_and_two_wait(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> tuple[list[UUID], asyncio.Task[BatchReport]]:
    """A batch of three that workers died with, once one of them is claimed to run alone."""
    ids = [await uploads.put(f"{n}.jpg", ordered("take a while")) for n in range(3)]
    for each in ids:
        await died(catalog, each, RUN_ALONE_AFTER)
    before = sum([(await found(catalog, each)).claims for each in ids])
    working = asyncio.create_task(process(catalog, ids, context))
    while sum([(await found(catalog, each)).claims for each in ids]) < before + 4:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return ids, working


async def test_who_waits_to_run_alone_has_no_claim_that_counts_where_a_worker_dies(
    catalog: Catalog, blobs: Storage, uploads: Uploads, rogue: Sandbox
) -> None:
    context = batch_context(catalog, blobs, rogue)
    ids, working = await one_runs_alone_and_two_wait(catalog, uploads, context)

    async def the_others_are_queued() -> bool:
        states = [(await found(catalog, each)).state for each in ids]
        return sorted(states) == [State.PROCESSING, State.QUEUED, State.QUEUED]

    await until(the_others_are_queued)
    assert (await working).outcomes == Counter(ready=3)


async def test_once_the_worker_stops_nobody_is_claimed_who_waits_to_run_alone(
    catalog: Catalog, blobs: Storage, uploads: Uploads, rogue: Sandbox
) -> None:
    context = batch_context(catalog, blobs, rogue)
    _, working = await one_runs_alone_and_two_wait(catalog, uploads, context)
    context.stopping.set()
    report = await working

    assert report.outcomes == Counter(ready=1)
    assert len(report.left_over) == 2


async def test_a_claim_is_given_back_however_often_its_caller_is_cancelled_meanwhile(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    job_id = await on_one_job(catalog, [upload_id])
    async with catalog.database.writing():  # for which the claim waits
        claiming = asyncio.create_task(_claim(upload_id, job_id, context))
        for _ in range(2):
            await asyncio.wait({claiming}, timeout=0.02)
            claiming.cancel()
        await asyncio.wait({claiming}, timeout=0.02)
    with pytest.raises(asyncio.CancelledError):
        await claiming

    assert (await found(catalog, upload_id)).state is State.QUEUED
    assert (await found(catalog, upload_id)).claims == 1


async def test_an_upload_that_killed_a_worker_alone_has_crashed_its_decoder(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    await died(catalog, upload_id, RUN_ALONE_AFTER + 1)
    await process(catalog, [upload_id], context)

    upload = await found(catalog, upload_id)
    assert (upload.state, upload.error_code) == (State.FAILED, "decoder_crashed")


async def test_what_is_served_outlives_the_workers_that_died_with_it_but_for_one_more(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    await process(catalog, [upload_id], context)
    states = []
    for deaths in (RUN_ALONE_AFTER + 1, RUN_ALONE_AFTER + 2):
        await uploads.announce("cat.jpg")
        await died(catalog, upload_id, deaths)
        await process(catalog, [upload_id], context)
        states.append((await found(catalog, upload_id)).state)

    assert states == [State.READY, State.FAILED]


@on_files
async def test_the_workers_that_died_with_an_upload_still_count_where_the_storage_was_away(
    catalog: Catalog, uploads: Uploads, context: BatchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_more: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    upload_id = await uploads.put("cat.jpg", jpeg())
    await died(catalog, upload_id, RUN_ALONE_AFTER + 1)
    with monkeypatch.context() as away:
        away.setattr(os, "open", broken)
        postponed = await process(catalog, [upload_id], context)
    async with catalog.database.writing() as connection:
        await connection.execute(update(rows).values(not_before_ms=0))
    failed = await process(catalog, [upload_id], batch_context(catalog, uploads.blobs, context.sandbox))

    assert [code for _, code, _ in postponed.failures] == ["storage_unavailable"]
    assert [code for _, code, _ in failed.failures] == ["decoder_crashed"]


async def test_slots_are_so_many_and_an_exclusive_one_is_all_of_them() -> None:
    slots = Slots(2)
    seen: list[str] = []

    async def beside(name: str) -> None:
        async with slots.one():
            seen.append(f"{name}+")
            await asyncio.sleep(0)
            seen.append(f"{name}-")

    async def alone() -> None:
        async with slots.exclusive():
            seen.append("alone+")
            for _ in range(20):
                await asyncio.sleep(0)
            seen.append("alone-")

    await asyncio.gather(beside("a"), alone(), beside("b"), alone(), beside("c"))

    at = [index for index, word in enumerate(seen) if word == "alone+"]
    assert [seen[index + 1] for index in at] == ["alone-", "alone-"]
    assert sorted(seen) == sorted(
        ["a+", "a-", "b+", "b-", "c+", "c-", "alone+", "alone-", "alone+", "alone-"]
    )


# -- deletions


async def delete(catalog: Catalog, upload_id: UUID, ms: int = 1000, *, original: bool = False) -> None:
    await take(catalog, DeletionRequested(StreamId(ms), upload_id, original))


async def test_a_deleted_upload_loses_its_files_and_is_reported(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    await process(catalog, [upload_id], context)
    await delete(catalog, upload_id)
    report = await process(catalog, [upload_id], context)

    assert report.outcomes == Counter(deleted=1)
    assert await uploads.variants() == {}
    assert [message.kind for message in await outbox_of(catalog)] == [State.READY, State.DELETED]


@pytest.mark.parametrize("allowed", [True, False])
@on_both
async def test_an_original_goes_only_where_the_operator_allows_it(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads, *, allowed: bool
) -> None:
    context = batch_context(catalog, blobs, sandbox, may_delete_originals=allowed)
    upload_id = await uploads.put("cat.jpg", jpeg())
    await delete(catalog, upload_id, original=True)
    report = await process(catalog, [upload_id], context)

    assert (await found(catalog, upload_id)).state is State.DELETED
    assert await uploads.is_there("cat.jpg") is not allowed
    assert [message.original_kept for message in await outbox_of(catalog)] == [not allowed]
    fates = [message.original_fate for message in await outbox_of(catalog)]
    assert fates == [OriginalFate.TRASHED if allowed else OriginalFate.KEPT]
    assert [why for _, why in report.kept] == ([] if allowed else ["MEDIA_DELETE_ORIGINALS is 0"])


async def test_an_original_that_another_upload_has_is_kept_and_that_is_said(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    context = batch_context(catalog, blobs, sandbox, may_delete_originals=True)
    upload_id = await uploads.put("cat.jpg", jpeg())
    await take(catalog, upload_event(500, uuid4(), "uploads/cat.jpg"))
    await delete(catalog, upload_id, original=True)
    report = await process(catalog, [upload_id], context)

    assert await uploads.is_there("cat.jpg")
    assert report.kept == [(upload_id, "another upload has the same source")]


@pytest.mark.parametrize("blobs", ["bucket"], indirect=True)
async def test_an_original_whose_key_the_trash_of_a_bucket_cannot_have_is_kept_and_that_is_said(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    context = batch_context(catalog, blobs, sandbox, may_delete_originals=True)
    upload_id = await uploads.put("/".join([*["d" * 200] * 4, "f" * 130 + ".jpg"]), jpeg())
    await delete(catalog, upload_id, original=True)

    report = await process(catalog, [upload_id], context)

    assert (await found(catalog, upload_id)).state is State.DELETED
    [(_, why)] = report.kept
    assert "a key has at most 1024 bytes in a bucket" in why


@on_files
async def test_an_original_that_cannot_be_moved_ends_the_deletion_all_the_same_and_that_is_said(
    catalog: Catalog,
    blobs: Storage,
    sandbox: Sandbox,
    uploads: Uploads,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = batch_context(catalog, blobs, sandbox, may_delete_originals=True)
    upload_id = await uploads.put("cat.jpg", jpeg())
    await process(catalog, [upload_id], context)
    await delete(catalog, upload_id, original=True)

    def refuse(*_args: object, **_more: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "rename", refuse)
    report = await process(catalog, [upload_id], context)

    assert (await found(catalog, upload_id)).state is State.DELETED
    assert await uploads.variants() == {}
    assert [message.original_kept for message in await outbox_of(catalog)] == [False, True]
    [(_, why)] = report.kept
    assert str(uploads.path("cat.jpg")) in why


@pytest.mark.parametrize("lack", ["right", "room", "folder"])
@on_files
@pytest.mark.rotating(2)
async def test_a_deletion_ends_and_is_reported_where_the_trash_cannot_be_written(
    catalog: Catalog,
    blobs: Storage,
    sandbox: Sandbox,
    uploads: Uploads,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    lack: str,
) -> None:
    context = batch_context(catalog, blobs, sandbox, may_delete_originals=True)
    upload_id = await uploads.put("cat.jpg", jpeg())
    await process(catalog, [upload_id], context)
    await delete(catalog, upload_id, original=True)
    if lack == "folder":
        (root / "trash").write_bytes(b"")
    else:
        (root / "trash").mkdir()
        no_trash(monkeypatch, root, errno.EACCES if lack == "right" else errno.ENOSPC)

    reports = []
    for _ in range(MAX_ATTEMPTS):
        reports.append(await process(catalog, [upload_id], context))
        [*waiting] = await catalog.failures.waiting(10)
        if not reports[-1].outcomes["deleting"]:
            break
        assert [(one.id, one.state) for one in waiting] == [(upload_id, State.DELETING)]
        assert f"moved to {root}/trash" in (waiting[0].error_message or "")
        await make_due(catalog)

    assert [report.outcomes for report in reports[1:]] == [Counter(deleting=1)] * 6 + [Counter(deleted=1)]
    assert [message.original_kept for message in await outbox_of(catalog)] == [False, True]
    assert f"moved to {root}/trash" in reports[-1].kept[0][1]
    assert uploads.path("cat.jpg").exists()
    assert waiting == []


def no_trash(monkeypatch: pytest.MonkeyPatch, root: Path, number: int) -> None:
    """No folder can be made in `trash/`."""
    real = os.mkdir

    def refuse(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None and os.path.samestat(os.fstat(dir_fd), (root / "trash").stat()):
            raise OSError(number, os.strerror(number))
        real(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", refuse)


async def make_due(catalog: Catalog) -> None:
    async with catalog.database.writing() as connection:
        await connection.execute(update(rows).values(not_before_ms=0))


@pytest.mark.parametrize("two_files", [True, False])
@on_files
async def test_an_original_that_another_upload_has_by_another_spelling_is_kept(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads, *, two_files: bool
) -> None:
    context = batch_context(catalog, blobs, sandbox, may_delete_originals=True)
    upload_id = await uploads.put("\u00e4.jpg", jpeg())
    if two_files:
        await uploads.put("a\u0308.jpg", jpeg())
    else:
        await take(catalog, upload_event(500, uuid4(), "uploads/a\u0308.jpg"))
    await delete(catalog, upload_id, original=True)
    await process(catalog, [upload_id], context)

    assert uploads.path("\u00e4.jpg").exists() is not two_files
    assert uploads.path("a\u0308.jpg").exists() is two_files


@pytest.mark.parametrize("original", [True, False])
@on_both
@pytest.mark.rotating(2)
async def test_an_original_is_said_to_be_kept_only_where_it_was_to_go_and_is_there(
    catalog: Catalog, uploads: Uploads, context: BatchContext, *, original: bool
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    if original:
        await uploads.blobs.delete("uploads/cat.jpg")
    await delete(catalog, upload_id, original=original)
    await process(catalog, [upload_id], context)

    assert [message.original_kept for message in await outbox_of(catalog)] == [False]
    fates = [message.original_fate for message in await outbox_of(catalog)]
    assert fates == [OriginalFate.MISSING if original else OriginalFate.KEPT]


async def test_a_deletion_is_not_reported_as_a_crash_however_many_workers_died_with_it(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    await delete(catalog, upload_id)
    await died(catalog, upload_id, RUN_ALONE_AFTER + 2)
    report = await process(catalog, [upload_id], context)

    assert report.outcomes == Counter(deleted=1)


@on_files
async def test_a_deletion_that_cannot_be_done_is_never_given_up(
    catalog: Catalog, uploads: Uploads, context: BatchContext, root: Path
) -> None:
    upload_id = await uploads.put("cat.jpg", jpeg())
    await process(catalog, [upload_id], context)
    thumb, *_ = sorted(await uploads.variants())
    (root / thumb).unlink()
    (root / thumb).mkdir()
    await delete(catalog, upload_id)
    report = await process(catalog, [upload_id], context)

    assert (await found(catalog, upload_id)).state is State.DELETING
    assert (report.left_over, report.due_in_ms) == ([upload_id], DELETE_AGAIN_MS)
    (root / thumb).rmdir()
    await make_due(catalog)
    assert (await process(catalog, [upload_id], context)).outcomes == Counter(deleted=1)


async def test_the_beginning_of_work_is_told_but_not_that_of_a_deletion(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    begun: list[Claim] = []
    told = replace(context, on_begun=begun.append)
    upload_id = await uploads.put("cat.jpg", b"no picture")
    await process(catalog, [upload_id], told)
    await delete(catalog, upload_id)
    await process(catalog, [upload_id], told)

    assert [(one.upload.id, one.upload.state) for one in begun] == [(upload_id, State.PROCESSING)]


async def test_what_is_replaced_is_told_with_what_there_is_of_its_original(
    catalog: Catalog, uploads: Uploads, context: BatchContext
) -> None:
    gone = await uploads.put("gone.jpg", b"x")
    await uploads.blobs.delete("uploads/gone.jpg")
    kept = await uploads.put("kept.jpg", b"x")
    for number, other in enumerate((gone, kept)):
        await uploads.store(f"new-{number}.jpg", jpeg())
        event = upload_event(1000 + number, uuid4(), f"uploads/new-{number}.jpg")
        await take(catalog, replace(event, replaces=other))
        await process(catalog, [event.id], context)

    fates = {each.id: each.original_fate for each in await outbox_of(catalog) if each.kind is State.DELETED}
    assert fates == {gone: OriginalFate.MISSING, kept: OriginalFate.KEPT}
