"""Many uploads, bounded: claims each when its own work starts, turns each error into an outcome, reports."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol
from uuid import UUID

from pipelines.accounts import Accounts, Meter
from pipelines.batch_report import BatchReport
from pipelines.commits import Committer
from pipelines.errors import (
    DecoderKilled,
    DecoderStarved,
    DecoderUnavailable,
    RecipeUnknown,
    WorkerKiller,
)
from pipelines.metrics import NO_METRICS, EndedTry, Metrics
from pipelines.originals import same_file_as
from pipelines.outage import Outage
from pipelines.poison import PoisonList
from pipelines.recipe import Recipes
from pipelines.sandbox import Sandbox
from pipelines.sandbox.rooms import NotBegunError, Patience
from pipelines.slots import Slots
from pipelines.traces import NO_TRACES, Traces, TryTrace
from pipelines.upload import (
    WORKERS_DIED,
    DoomedBlobs,
    PictureBlobs,
    find_fates,
    make_variants,
    remove_upload,
)
from pipelines.watcher import OriginalWatcher
from storage.blobs import CheckIdentity, Existence
from storage.catalog.claims import Claims
from storage.catalog.records import (
    Claim,
    Committed,
    Failed,
    OriginalFate,
    Outcome,
    Postponed,
    Ready,
    Removed,
    State,
)
from storage.errors import (
    BlobForbidden,
    BlobNotFound,
    BlobsUnavailable,
    CatalogDamaged,
    CatalogUnavailable,
    RootMismatch,
    StorageError,
    TargetUnavailable,
)
from storage.tasks import completed

RUN_ALONE_AFTER = 3  # workers that died with an upload, before it runs alone
DELETE_AGAIN_MS = 600_000  # a deletion that cannot be done now is tried for ever
DAMAGED_AGAIN_MS = 60_000  # an upload whose rows cannot be read: somebody has to mend the catalog first
_ABOUT_S = 0.5  # a job is on time if it is no earlier
NEW_WORK_S = 30  # a batch takes no new upload after this time, so that a crash costs seconds of work


class BatchBlobs(PictureBlobs, DoomedBlobs, CheckIdentity, Protocol):
    """The verbs of a storage that a batch uses."""


Classify = Callable[[Exception, Claim], Failed | Postponed]
"""Says what an error means for the upload that met it."""


def _tell_nobody(_claim: Claim) -> None:
    pass


@dataclass(frozen=True)
class BatchContext:
    """The parts that a batch works with, and the rules it follows."""

    holder: str  # the worker, as its claims name it
    recipes: Recipes  # those that uploads may name now
    blobs: BatchBlobs  # originals are read there, and variants stored
    claims: Claims  # the rows of uploads: who may write the next outcome
    sandbox: Sandbox  # makes variants in decoder processes
    poison: PoisonList  # contents that are refused because they killed a decoder
    outage: Outage  # of the storage: a pause for everything
    decoder_outage: Outage  # no decoder can be started: a pause unless one lives
    committer: Committer  # writes the outcomes of several uploads in one transaction
    slots: Slots  # uploads at work at once in all batches; enough for groups of small ones
    classify: Classify
    may_delete_originals: bool  # where not, a deletion leaves the original in its place
    stopping: asyncio.Event  # once set, no further upload is claimed
    watcher: OriginalWatcher | None = None  # makes uploads due when their original changes; None: nobody does
    metrics: Metrics = NO_METRICS
    traces: Traces = NO_TRACES
    accounts: Accounts = field(default_factory=Accounts)  # what tries cost is debited to owners
    on_begun: Callable[[Claim], None] = _tell_nobody  # told before an upload is worked on; it must not wait


async def process_uploads(
    ids: Sequence[UUID], job_id: str, context: BatchContext, owners: dict[UUID, str] | None = None
) -> BatchReport:
    """Work on those uploads of a job whose time has come; their `owners` are filled in where they are empty.

    An upload that fails is an outcome in the report; only what keeps the whole batch from going on raises.

    Raises: ExceptionGroup of what keeps it from going on, mostly CatalogUnavailable.
    """
    report = BatchReport()
    until = time.monotonic() + NEW_WORK_S
    async with asyncio.TaskGroup() as group:
        owners = {} if owners is None else owners
        owners |= {} if owners else await _owners(ids, context)
        for upload_id in ids:
            turn = _Due(upload_id, owners.get(upload_id, ""), job_id, until)
            group.create_task(_isolate_damage(turn, context, report))
    if report.outcomes["skipped"] or report.watched:
        await _collect_postponed(ids, job_id, context, report)
    return report


async def _collect_postponed(
    ids: Sequence[UUID], job_id: str, context: BatchContext, report: BatchReport
) -> None:
    """Leave to the job what is postponed; what the watcher has made due meanwhile is due at once."""
    try:
        waits = await context.claims.waits_ms(ids, job_id)
    except CatalogUnavailable:  # the reconciler finds them when they are due
        return
    for upload_id, wait_ms in waits.items():
        if upload_id in report.watched and not wait_ms:
            report.due_in_ms = 0
        elif upload_id not in report.left_over:
            report.leave(upload_id, wait_ms)


async def _owners(ids: Sequence[UUID], context: BatchContext) -> Mapping[UUID, str]:
    try:
        return await context.claims.owners_of(ids)
    except CatalogDamaged:  # each upload whose own row is damaged says so
        return {}


@dataclass(frozen=True)
class _Due:
    """One upload of a job, to be begun until that time."""

    upload_id: UUID
    owner: str
    job_id: str
    until: float


async def _isolate_damage(turn: _Due, context: BatchContext, report: BatchReport) -> None:
    """Process one upload; where its rows are damaged, leave it over and let the others go on."""
    try:
        await _process(turn, context, report)
    except CatalogDamaged as error:
        upload_id = turn.upload_id
        report.outcomes["unrecorded"] += 1
        context.metrics.upload_tried(EndedTry("unrecorded", code="catalog_unavailable"))
        report.failures.append((upload_id, "catalog_unavailable", str(error)))
        report.leave(upload_id, DAMAGED_AGAIN_MS)


async def _process(turn: _Due, context: BatchContext, report: BatchReport) -> None:
    with ExitStack() as stack:  # a try that was begun ends, whatever comes
        await _try(turn, context, report, stack)


async def _try(turn: _Due, context: BatchContext, report: BatchReport, stack: ExitStack) -> None:
    upload_id = turn.upload_id
    waited_from = time.perf_counter()
    async with AsyncExitStack() as place:
        if not await _has_place(place, turn, context):
            report.leave(upload_id, 0)
            return
        report.ms["wait"] += (time.perf_counter() - waited_from) * 1000
        if time.monotonic() > turn.until:
            report.leave(upload_id, 0)
            return
        if await _is_left(upload_id, context, report):
            return
        claimed_at = time.perf_counter()
        claim = await _claim(upload_id, turn.job_id, context)
        if claim is not None and claim.crash_count == RUN_ALONE_AFTER:
            # Not claimed while it waits: it would be counted where a worker dies with another that is alone.
            await completed(context.claims.release([claim]))
            await place.aclose()
            await place.enter_async_context(context.slots.exclusive(claim.account))
            report.ms["wait"] += (time.perf_counter() - claimed_at) * 1000
            # However late it is: whoever tried it next would wait for all that work then.
            if await _is_left(upload_id, context, report):
                return
            claimed_at = time.perf_counter()
            claim = await _claim(upload_id, turn.job_id, context)
        if claim is None:
            report.outcomes["skipped"] += 1
            context.metrics.upload_tried(EndedTry("skipped"))
            return
        times = {"waited_s": claimed_at - waited_from, "claimed_s": time.perf_counter() - claimed_at}
        tried = stack.enter_context(context.traces.trying(claim, **times))
        report.note_trace(upload_id, tried.traceparent)
        meter = Meter(claim.account)
        loop_until = asyncio.get_running_loop().time() + turn.until - time.monotonic()
        patience = Patience(loop_until, context.stopping)
        if claim.upload.state is not State.DELETING:
            context.on_begun(tried.claim)
        try:
            outcome = await _outcome(tried, meter, patience, context, report)
        except NotBegunError:
            await completed(context.claims.release([claim]))
            report.leave(upload_id, 0)
            return
    context.accounts.debit(meter, uploads=int(_is_another_upload(outcome)))
    submitted = time.perf_counter()
    committed = await context.committer.submit(outcome)
    commit_s = time.perf_counter() - submitted
    report.ms["commit"] += commit_s * 1000
    ended = _ended(report.note(committed, outcome), outcome, time.perf_counter() - claimed_at)
    context.metrics.stage_finished("wait", claimed_at - waited_from)
    context.metrics.stage_finished("commit", commit_s)
    context.metrics.upload_tried(ended)
    tried.ended(ended, commit_s)
    _watch(committed, outcome, context, report)


async def _has_place(place: AsyncExitStack, turn: _Due, context: BatchContext) -> bool:
    """Wait for a place; False where the turns of others take longer than the job may wait."""
    try:
        async with asyncio.timeout(turn.until - time.monotonic()):
            await place.enter_async_context(context.slots.one(turn.owner))
    except TimeoutError:
        return False
    return True


async def _is_left(upload_id: UUID, context: BatchContext, report: BatchReport) -> bool:
    """Whether no upload is to be claimed now; then it is left to the job."""
    if context.stopping.is_set():
        report.leave(upload_id, 0)
        return True
    # After a pause, one probe takes the place of all uploads that would fail.
    if pause_ms := max([await outage.remaining_ms() for outage in _outages(context)]):
        report.leave(upload_id, pause_ms)
        return True
    return False


def _is_another_upload(outcome: Outcome) -> bool:
    """Whether it is one more upload of its owner that has ended, and not what was ready made again."""
    known = outcome.claim.upload.original
    match outcome:
        case Ready(_, original):
            return known is None or known.sha256 != original.sha256
        case Failed():
            return known is None
    return False


def _ended(ended: str, outcome: Outcome, seconds: float) -> EndedTry:
    code = None
    if isinstance(outcome, Failed | Postponed) and ended != "fenced":
        settles = isinstance(outcome, Postponed) and outcome.seen is not None
        code = None if settles else outcome.code
    upload, began_ms = outcome.claim.upload, outcome.claim.began_ms
    return EndedTry(ended, seconds, code, max(0.0, (began_ms - upload.asked_ms) / 1000) + seconds)


def _watch(committed: Committed, outcome: Outcome, context: BatchContext, report: BatchReport) -> None:
    """Watch the original of an upload that waits for it, and of one that is ready: half may be missing."""
    source = outcome.claim.upload.source
    if context.watcher is None or source is None:
        return
    if isinstance(outcome, Ready) and committed.state is State.READY and outcome.seen is not None:
        context.watcher.watch_made(outcome.claim, source, outcome.seen)
    if not isinstance(outcome, Postponed) or outcome.seen is None:
        return
    if committed.state is State.QUEUED and committed.due_in_ms:
        report.watched.add(committed.id)
        context.watcher.watch(committed.id, source, outcome.seen, committed.due_in_ms / 1000)


def is_paused(context: BatchContext) -> bool:
    """Whether nothing is to be attempted now."""
    return any(outage.pause_ms for outage in _outages(context))


def _outages(context: BatchContext) -> Iterator[Outage]:
    """Those that matter. Decoders that live go on while no other can be started."""
    yield context.outage
    if not context.sandbox.has_decoders:
        yield context.decoder_outage


async def _claim(upload_id: UUID, job_id: str, context: BatchContext) -> Claim | None:
    taking = asyncio.ensure_future(context.claims.claim(upload_id, job_id, context.holder))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        await completed(_give_back(taking, context))
        raise


async def _give_back(taking: Awaitable[Claim | None], context: BatchContext) -> None:
    # It may have been written already, and would then be taken for that of a worker that died.
    claim = await taking
    if claim is not None:
        await context.claims.release([claim])


async def _outcome(
    tried: TryTrace,
    meter: Meter,
    patience: Patience,
    context: BatchContext,
    report: BatchReport,
) -> Outcome:
    """The one place where an upload's error becomes an outcome. Raises: NotBegunError."""
    try:
        with tried.working():
            try:
                return await _attempt(tried, meter, patience, context, report)
            except NotBegunError:
                raise
            except Exception as error:
                outcome = _crashes_kept(await _classified(error, tried.claim, context), error)
                report.note_details(error, outcome)
                return outcome
    except asyncio.CancelledError:
        await completed(context.claims.release([tried.claim]))
        raise


async def _classified(error: Exception, claim: Claim, context: BatchContext) -> Outcome:
    classified = context.classify(error, claim)
    if isinstance(classified, Failed) and (early := _came_early(error, classified, context)):
        return early
    if isinstance(error, BlobNotFound) and isinstance(classified, Failed):
        error = await _cause(error, context)
        classified = context.classify(error, claim)
    outage = _outage_of(error, context)
    if outage is not None and await outage.confirm():
        return Postponed(claim, classified.code, classified.message, outage.pause_ms, counted=False)
    if isinstance(classified, Failed) and claim.upload.state is State.DELETING:
        if isinstance(error, TargetUnavailable):  # the variants are gone, and only the original is left
            return Removed(claim, kept=str(error))
        # A deletion is never given up, and never reported as a picture that failed.
        return Postponed(claim, classified.code, classified.message, DELETE_AGAIN_MS, counted=True)
    return classified


def _crashes_kept(outcome: Outcome, error: Exception) -> Outcome:
    """Where workers died and nothing may be decoded, trouble of the storage leaves it so for the next try."""
    decodes_nothing = outcome.claim.crash_count > RUN_ALONE_AFTER
    if isinstance(outcome, Postponed) and isinstance(error, StorageError) and decodes_nothing:
        return replace(outcome, keeps_crash_count=True)
    return outcome


def _came_early(error: Exception, classified: Failed, context: BatchContext) -> Postponed | None:
    """Postpone once more by the rest of a wait for an original that a leap of the clock has cut short."""
    seen = Existence.MISSING if isinstance(error, BlobNotFound) else getattr(error, "seen", None)
    remaining_s = context.watcher.remaining_s(classified.claim.upload.id) if context.watcher else 0.0
    if seen is None or remaining_s < _ABOUT_S:
        return None
    return Postponed(
        classified.claim,
        classified.code,
        classified.message,
        int(remaining_s * 1000),
        counted=False,
        seen=seen,
    )


async def _cause(missing: BlobNotFound, context: BatchContext) -> Exception:
    """The reason why there is no file: the root may have been exchanged."""
    try:
        await context.blobs.check_identity()
    except StorageError as error:
        return error
    return missing


def _outage_of(error: Exception, context: BatchContext) -> Outage | None:
    match error:
        case BlobForbidden():  # the rights of one file say nothing of the others
            return None
        case BlobsUnavailable() | RootMismatch():
            return context.outage
        case DecoderUnavailable() | DecoderStarved() | DecoderKilled():
            return context.decoder_outage
        case _:
            return None


async def _attempt(
    tried: TryTrace, meter: Meter, patience: Patience, context: BatchContext, report: BatchReport
) -> Outcome:
    claim = tried.claim
    if claim.upload.state is State.DELETING:
        keys = await context.claims.keys_of(claim.upload.id)
        return await remove_upload(
            claim,
            keys,
            context.blobs,
            with_original=claim.delete_original,
            holds=context.claims.holds,
            forbidden=await _why_forbidden(claim, context) if claim.delete_original else None,
        )
    if claim.crash_count > RUN_ALONE_AFTER + 1:
        raise WorkerKiller(WORKERS_DIED)
    recipe = context.recipes.get(claim.upload.recipe)
    if recipe is None:
        raise RecipeUnknown(f"There is no recipe {claim.upload.recipe!r} any more.")
    made = await make_variants(
        *(claim, recipe, context.blobs, context.sandbox, context.poison, context.claims.holds),
        may_decode=claim.crash_count <= RUN_ALONE_AFTER,
        meter=meter,
        patience=patience,
        more_wait=partial(context.slots.are_awaited_by, meter.owner),
    )
    report.add(made.ms)
    context.metrics.stages_finished(made.ms)
    tried.stages_finished(made.ms)
    if made.reused is not None:
        context.metrics.reused(made.reused)
        tried.reused(made.reused)
    if made.undecoded is not None:
        report.note_undecoded(made.undecoded, context.classify(made.undecoded, claim))
    if made.is_decoded:
        original = made.outcome.original
        pixels = original.width * original.height
        context.metrics.picture_made(original.format, pixels, original.bytes, made.written)
        tried.picture_made(original, made.written)
    if claim.replaces is None:
        return made.outcome
    sources = await context.claims.sources_replaced(claim)
    fates = await find_fates([source for source in sources.values() if source], context.blobs)
    originals = {one: fates.get(source or "", OriginalFate.MISSING) for one, source in sources.items()}
    return replace(made.outcome, originals=originals)


async def _why_forbidden(claim: Claim, context: BatchContext) -> str | None:
    """Why the original must stay although an app asks for its deletion; None where it may go."""
    source = claim.upload.source
    if not context.may_delete_originals:
        return "MEDIA_DELETE_ORIGINALS is 0"
    if source is None:
        return None
    sources = [source, *await same_file_as(source, context.blobs)]
    if await context.claims.others_with(sources, claim.upload.id):
        return "another upload has the same source"
    return None
