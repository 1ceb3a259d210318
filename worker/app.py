"""The composition root: opens catalog, blobs and decoders in order, and closes them in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog

from pipelines.batch import BatchContext, Slots
from pipelines.commits import Committer
from pipelines.errors import DecoderUnavailable
from pipelines.formats import MIB
from pipelines.lookout import Lookout
from pipelines.metrics import NO_METRICS, Metrics
from pipelines.outage import Outage
from pipelines.poison import PoisonList
from pipelines.sandbox import DECODER, TOO_CROWDED, Allowance, Sandbox, decoder_version, open_sandbox
from storage import keys
from storage.blobs import Storage
from storage.blobs.mapping import mapped
from storage.blobs.opening import open_blobs
from storage.catalog import Catalog, open_catalog
from storage.errors import CatalogUnavailable, RootMismatch, VolumeMissing
from storage.paths import has_catalog, is_there
from storage.threads import start_threads
from worker.adoption import Adoption
from worker.health import (
    INTAKE_STALLED_AFTER_S,
    Check,
    Health,
    check_catalog,
    check_decoders,
    check_intake,
    check_jobs,
    check_memory,
    check_owner,
    check_rights,
)
from worker.intake import Intake
from worker.publisher import OutboxPublisher
from worker.queue import Queue, QueueUnavailable
from worker.queue.heartbeats import new_instance
from worker.retry import classify
from worker.settings import LEAST_MEMORY_MB, OF_A_PROCESS, Settings, available_cpus
from worker.shutdown import Shutdown

log = structlog.get_logger(__name__)

JOBS_AT_ONCE = 4
_PAUSE_S = 1.0  # after background work has failed
_CANCEL_INTERVAL_S = 0.2  # until background work is cancelled once more
BACKLOG = 16  # jobs that may wait before the intake pauses


@dataclass(frozen=True)
class Stores:
    """Bytes and rows that belong together."""

    catalog: Catalog
    blobs: Storage


@dataclass(frozen=True)
class App:
    """Everything that a worker is made of."""

    settings: Settings
    """As they were read once, at the start."""
    queue: Queue
    """Redis: the stream of events, the jobs, the messages, the heartbeats."""
    catalog: Catalog
    """The rows: uploads, variants, outbox, dead letters."""
    blobs: Storage
    """The bytes: originals, variants, trash."""
    sandbox: Sandbox
    """The pool of decoder processes; it bounds memory and CPU."""
    batch: BatchContext
    """What a job hands to `process_uploads`."""
    publisher: OutboxPublisher
    """Sends the messages of the outbox; runs in the background."""
    intake: Intake
    """Turns events into rows and jobs; runs in the background."""
    health: Health
    """Sends heartbeats; runs in the background."""
    adoption: Adoption
    """The walk for originals without a record; the periodic task `adopt` takes its steps."""
    shutdown: Shutdown
    """Whether to stop, and which batches a second signal cancels."""


@asynccontextmanager
async def open_stores(
    settings: Settings, *, create: bool = True, migrate: bool = False
) -> AsyncIterator[Stores]:
    """The catalog and the storage root that the settings name; they are checked to belong together.

    Raises: NoCatalog unless it may be made, RootMismatch, CatalogTooNew, CatalogObsolete, CatalogTooOld
    unless it may be migrated, CatalogUnavailable, BlobsUnavailable.
    """
    if create:
        _check_unused(settings)
    async with (
        open_catalog(
            settings.catalog_url,
            create=create,
            migrate=migrate,
            uploads_per_job=settings.uploads_per_job,
        ) as catalog,
        open_blobs(settings.storage_url, create=catalog.is_new) as blobs,
    ):
        await blobs.bind(catalog.id, catalog_is_new=catalog.is_new)
        if catalog.is_new:
            await catalog.mark_bound()
        yield Stores(catalog, blobs)


def _check_unused(settings: Settings) -> None:
    """Raises: RootMismatch where a catalog that does not exist would be made for a root that has another.

    Also CatalogUnavailable or BlobsUnavailable where nobody can say what is there.
    """
    path, root = settings.catalog_path, settings.storage_root
    if has_catalog(path):
        return
    with mapped(root / keys.MARKER):
        bound = is_there(root / keys.MARKER)
    if bound and not has_catalog(path):  # otherwise another worker, which starts too, has just made both
        raise RootMismatch(
            f"There is no catalog at {path}, but {root} has a {keys.MARKER} already: "
            "correct MEDIA_CATALOG_URL, or restore the catalog; where it is lost: `media rebuild`."
        )


@asynccontextmanager
async def open_app(
    settings: Settings,
    queue: Queue,
    shutdown: Shutdown,
    decoder: Sequence[str] = DECODER,
    metrics: Metrics = NO_METRICS,
) -> AsyncIterator[App]:
    """Open all parts of a worker; `in_background` runs its background tasks. `decoder` is a command line.

    `metrics` is told what happens.

    Raises: RootMismatch, CatalogTooNew, CatalogObsolete, CatalogUnavailable, BlobsUnavailable,
    DecoderUnavailable.
    """
    recipes = settings.recipe_book
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_stores(settings, migrate=True))
        if migrated := stores.catalog.database.migrated:
            details = {"before": migrated.before, "after": migrated.after, "copy": str(migrated.copy)}
            log.info("catalog_migrated", **details)
        await stores.catalog.database.check_writable()
        try:
            await start_threads(available_cpus())
        except RuntimeError as error:
            raise DecoderUnavailable(str(error), TOO_CROWDED) from error
        await _prepare(stores.blobs)
        sandbox = await stack.enter_async_context(open_sandbox(allowance(settings), decoder))
        publisher = OutboxPublisher(stores.catalog.outbox, queue, metrics)
        stack.push_async_callback(publisher.close)
        slots = Slots(2 * settings.decoders + 2)
        lookout = Lookout(
            stores.blobs,
            _hastening(stores.catalog, queue),
            _repeating(stores.catalog, queue),
            settings.settle,
        )
        batch = BatchContext(
            holder=queue.consumer,
            recipes=recipes,
            blobs=stores.blobs,
            claims=stores.catalog.claims,
            sandbox=sandbox,
            poison=PoisonList(stores.catalog.poison, decoder_version()),
            outage=Outage(stores.blobs),
            decoder_outage=Outage(sandbox, DecoderUnavailable),
            committer=Committer(
                stores.catalog.claims, expected=lambda: slots.busy > 0, on_committed=publisher.publish
            ),
            slots=slots,
            classify=partial(classify, max_attempts=settings.max_attempts, settle_ms=settings.settle * 1000),
            may_delete_originals=settings.delete_originals,
            stopping=shutdown.stopping,
            lookout=lookout,
            metrics=metrics,
        )
        intake = Intake(
            queue,
            stores.catalog.intake,
            stores.catalog.epochs,
            publisher,
            recipes=frozenset(recipes),
            batch_size=settings.batch_size,
            backlog=BACKLOG,
            lease_s=settings.lease,
            stopping=shutdown.stopping,
            metrics=metrics,
        )
        health = Health(
            new_instance(),
            queue,
            {
                "catalog": check_catalog(stores.catalog),
                "storage": _quiet(stores.blobs.probe),
                "decoders": check_decoders(batch.decoder_outage, sandbox),
                "rights": check_rights(queue),
                "owner": check_owner(queue),
                "memory": check_memory(sandbox),
                "intake": check_intake(queue, BACKLOG, settings.lease + INTAKE_STALLED_AFTER_S),
                "jobs": check_jobs(queue, lambda: shutdown.batches < JOBS_AT_ONCE),
            },
        )
        yield App(
            settings=settings,
            queue=queue,
            catalog=stores.catalog,
            blobs=stores.blobs,
            sandbox=sandbox,
            batch=batch,
            publisher=publisher,
            intake=intake,
            health=health,
            adoption=Adoption(stores.blobs, stores.catalog, queue, grace_s=settings.grace),
            shutdown=shutdown,
        )


async def _prepare(blobs: Storage) -> None:
    """Take a staging folder and try the file system's features; a missing volume may appear later."""
    try:
        await blobs.prepare()
        for lack in await blobs.find_lacks():
            log.warning("file_system_lacks", reason=lack)
    except VolumeMissing as error:
        log.warning("volume_missing", reason=str(error))


def _hastening(catalog: Catalog, queue: Queue) -> Callable[[Sequence[UUID]], Awaitable[None]]:
    """Returns a function that makes the jobs of postponed uploads due now."""

    async def hasten(ids: Sequence[UUID]) -> None:
        try:
            await queue.jobs.make_due(await catalog.claims.hasten(ids))
        except (QueueUnavailable, CatalogUnavailable) as error:
            # They become due at their time.
            log.warning("uploads_not_hastened", uploads=len(ids), reason=str(error))

    return hasten


def _repeating(catalog: Catalog, queue: Queue) -> Callable[[Mapping[UUID, int]], Awaitable[None]]:
    """Returns a function that requeues ready uploads whose originals have been written to since."""

    async def repeat(made: Mapping[UUID, int]) -> None:
        try:
            jobs = await catalog.requeuer.requeue_made(made)
            await queue.jobs.enqueue(jobs)
        except (QueueUnavailable, CatalogUnavailable) as error:
            # If their rows were queued, the reconciler finds them; otherwise they stay as they are.
            log.warning("uploads_not_repeated", uploads=len(made), reason=str(error))
        else:
            if jobs:
                log.info("originals_written_to_since", uploads=sum(map(len, jobs.values())))

    return repeat


def _quiet(look: Callable[[], Awaitable[object]]) -> Check:
    """Returns a check that passes unless `look` raises."""

    async def check() -> None:
        await look()

    return check


@asynccontextmanager
async def in_background(app: App) -> AsyncIterator[None]:
    """Run the background tasks; at the end the worker's heartbeat and its consumer are removed."""
    works = [app.intake.run, app.publisher.run, app.health.run]
    if app.batch.lookout is not None:
        works.append(app.batch.lookout.run)
    tasks = [asyncio.create_task(_kept_up(work)) for work in works]
    try:
        yield
    finally:
        await _end(tasks)
        with suppress(QueueUnavailable, TimeoutError):
            async with asyncio.timeout(2):
                await app.health.close()
                await app.queue.stream.leave()


async def _kept_up(work: Callable[[], Awaitable[None]]) -> None:
    """Run background work until it returns; restart it after an unexpected exception."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("background_work_failed", work=work.__qualname__)
            await asyncio.sleep(_PAUSE_S)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()  # more than once: redis-py loses a cancellation that meets a time-out of its own
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_INTERVAL_S)


def _limit_of(settings: Settings) -> str:
    limit = settings.memory_limit
    return OF_A_PROCESS if limit and limit.by == OF_A_PROCESS else "the container's memory limit"


def allowance(settings: Settings) -> Allowance:
    """What a picture may cost by the settings. Raises: DecoderUnavailable if memory is too small for one."""
    if settings.budget_mb < LEAST_MEMORY_MB:
        raise DecoderUnavailable(
            f"{_limit_of(settings)} of {settings.budget_mb} MiB is too small for a decoder",
            f"Raise it to {LEAST_MEMORY_MB} MiB at least, better to 512.",
        )
    return Allowance(
        decoders=settings.decoders,
        memory=settings.budget_mb * MIB,
        max_source_bytes=settings.max_source_bytes,
        max_pixels=settings.max_pixels,
        image_timeout_s=settings.image_timeout,
        accept_damaged=settings.damaged == "accept",
        formats=settings.formats,
    )
