"""The composition root: opens catalog, blobs and decoders in order, and closes them in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from pipelines.accounts import Accounts
from pipelines.batch import BatchContext, is_paused
from pipelines.commits import Committer
from pipelines.errors import DecoderUnavailable
from pipelines.formats import MIB
from pipelines.outage import Outage
from pipelines.poison import PoisonList
from pipelines.recipe import digest_of
from pipelines.sandbox import DECODER, ForkServer, Sandbox, decoder_version, more_threads, open_sandbox
from pipelines.slots import Slots
from pipelines.traces import Traces
from pipelines.watcher import OriginalWatcher
from storage.blobs import Storage
from storage.catalog.backup_notes import BackupNotes
from storage.catalog.opening import Catalog
from storage.catalog.webhooks import Webhooks
from storage.errors import CatalogUnavailable, VolumeMissing
from storage.threads import start_threads
from worker.accounting import Accounting
from worker.adoption import Adoption
from worker.backups import copy_before_migration
from worker.decoders import allowance
from worker.degradation import (
    Degradation,
    now_and_then,
    resident,
    watch_backup,
    watch_log,
    watch_memory,
    watch_queue,
    watch_space,
    watch_sweep,
    watch_webhooks,
)
from worker.dispatcher import Dispatcher
from worker.health import (
    INTAKE_STALLED_AFTER_S,
    OWNER,
    Check,
    Health,
    check_decoders,
    check_intake,
    check_jobs,
    check_memory,
    check_rights,
)
from worker.intake import Intake
from worker.limits import available_cpus
from worker.metrics import WorkerMetrics
from worker.outage_log import OutageLog
from worker.places import PLACES, JobPlaces
from worker.process_info import describe_worker
from worker.publisher import OutboxPublisher
from worker.questions import QuestionDesk
from worker.queue import Queue, QueueUnavailable
from worker.recorder import Recorder
from worker.relay import Relay
from worker.retry import classify
from worker.sampling import Sampler
from worker.settings import Settings
from worker.shutdown import Shutdown
from worker.srcset import Link, lasting_link
from worker.status import SWEEP, Status
from worker.stores import Stores, open_stores
from worker.upload_limits import LimitsPublisher
from worker.webhooks.endpoint import WebhookEndpoint

if TYPE_CHECKING:
    from worker.webhooks.deliverer import WebhookDeliverer

log = structlog.get_logger(__name__)

BACKLOG = 16  # jobs that may wait before the intake pauses


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
    """The parts that a job hands to `process_uploads`."""
    publisher: OutboxPublisher
    """Sends the messages of the outbox; runs in the background."""
    webhooks: "Sequence[WebhookDeliverer]"
    """Post them, one to each endpoint; run in the background."""
    accounting: Accounting
    """Saves what owners were debited; runs in the background."""
    places: JobPlaces
    """The jobs in hand, and which owners may have more."""
    dispatcher: Dispatcher
    """Puts parked uploads on jobs; runs in the background."""
    intake: Intake
    """Turns events into rows and jobs; runs in the background."""
    limits: LimitsPublisher
    """Keeps the limits of uploads on Redis, for apps; runs in the background."""
    relay: Relay
    """Moves the events of apps that have streams of their own; runs in the background."""
    health: Health
    """Sends heartbeats; runs in the background."""
    degradation: Degradation
    """Sees what needs somebody before it stops the worker; runs in the background."""
    adoption: Adoption
    """The listing of originals without a record; the periodic task `adopt` takes its steps."""
    outage_log: OutageLog
    """What batches log of a catalog that is away."""
    shutdown: Shutdown
    """Whether to stop, and which batches a second signal cancels."""
    metrics: WorkerMetrics
    """What is counted, by all workers of this process one after another."""
    status: Status
    """What probes are answered, by this process's thread for them."""
    sampler: Sampler
    """Looks up what `metrics` shows of queue and stock; runs in the background where they are served."""


@asynccontextmanager
async def open_app(
    settings: Settings,
    queue: Queue,
    instance: str,
    shutdown: Shutdown,
    metrics: WorkerMetrics,
    status: Status,
    traces: Traces,
    decoder: Sequence[str] = DECODER,
    spawned: ForkServer | None = None,
) -> AsyncIterator[App]:
    """Open all parts of a worker; `in_background` runs its background tasks. `decoder` is a command line.

    The parent of decoders may have been `spawned` before.

    `instance` is the worker's name in its heartbeats, and in the name of its queue of jobs.

    Raises: RootMismatch, CatalogTooNew, CatalogObsolete, CatalogUnavailable, BlobsUnavailable,
    DecoderUnavailable.
    """
    recipes = settings.recipe_book
    async with AsyncExitStack() as stack:
        if kept := await copy_before_migration(settings):
            log.info("backup_made", copy=str(kept.path), reason="a migration is pending")
        stores = await stack.enter_async_context(
            open_stores(settings, migrate=True, watches=metrics.watches(settings.slow_ms))
        )
        if migrated := stores.catalog.database.migrated:
            copy = {"copy": str(migrated.copy)} if migrated.copy else {}
            log.info("catalog_migrated", before=migrated.before, after=migrated.after, **copy)
        await stores.catalog.database.check_writable()
        try:
            await start_threads(available_cpus())
        except RuntimeError as error:
            raise DecoderUnavailable(str(error), more_threads()) from error
        await _prepare(stores.blobs)
        accounts = Accounts()
        sandbox = await stack.enter_async_context(
            open_sandbox(allowance(settings), decoder, metrics, accounts, spawned)
        )
        _show_sandbox(sandbox, settings, metrics)
        link = lasting_link(settings.http_url, settings.http_files)
        webhooks = _webhooks(settings, stores, queue, shutdown, metrics, link)
        starts = stores.catalog.starts if settings.started else None
        publisher = OutboxPublisher(
            *(stores.catalog.outbox, queue, metrics, traces, link),
            on_messages=partial(_wake, webhooks),
            starts=starts,
        )
        stack.push_async_callback(publisher.close)
        stack.push_async_callback(_close, webhooks)
        stores.catalog.outbox.stay_above(publisher.newest_seq)
        # Whoever fills its share with pictures that take long leaves others the same again.
        slots = Slots(2 * sandbox.rooms.most, share=sandbox.rooms.share_of, accounts=accounts)
        dispatcher: Dispatcher  # it needs the batch, which needs the watcher
        watcher = OriginalWatcher(
            stores.blobs,
            partial(_make_due, stores.catalog, queue),
            partial(_repeat, stores.catalog, lambda: dispatcher.attend()),
            settings.settle,
        )
        batch = BatchContext(
            holder=queue.consumer,
            recipes=recipes,
            blobs=stores.blobs,
            claims=stores.catalog.claims,
            sandbox=sandbox,
            poison=PoisonList(stores.catalog.poison, decoder_version(), metrics),
            outage=Outage(stores.blobs),
            decoder_outage=Outage(sandbox, DecoderUnavailable),
            committer=Committer(
                stores.catalog.claims, expected=lambda: slots.busy > 0, on_committed=publisher.publish
            ),
            slots=slots,
            classify=partial(classify, max_attempts=settings.max_attempts, settle_ms=settings.settle * 1000),
            may_delete_originals=settings.delete_originals,
            stopping=shutdown.stopping,
            watcher=watcher,
            metrics=metrics,
            traces=traces,
            accounts=accounts,
            on_begun=publisher.begun,
        )
        places = JobPlaces(settings.uploads_per_job)
        accounting = Accounting(
            accounts, stores.catalog.owner_costs, stores.catalog.owner_uses, lambda: places.owners
        )
        stack.push_async_callback(accounting.close)
        dispatcher = Dispatcher(
            *(queue, stores.catalog.parking, places, accounts.turn_at),
            is_paused=partial(is_paused, batch),
            stopping=shutdown.stopping,
        )
        store, epochs = stores.catalog.intake, stores.catalog.epochs
        recorder = Recorder(queue, store, epochs, frozenset(recipes), metrics, traces, places)
        intake = Intake(
            queue,
            recorder,
            publisher,
            QuestionDesk(queue, stores.catalog.questions, recorder.parse, metrics, traces, link),
            batch_size=settings.batch_size,
            backlog=BACKLOG,
            lease_s=settings.lease,
            stopping=shutdown.stopping,
            metrics=metrics,
        )
        health = Health(
            instance,
            queue,
            {
                "catalog": stores.catalog.database.problem,
                "storage": stores.blobs.probe,
                "decoders": check_decoders(batch.decoder_outage, sandbox),
                "rights": check_rights(queue),
                OWNER: queue.ownership.check,
                "memory": check_memory(sandbox),
                "intake": check_intake(queue, BACKLOG, settings.lease + INTAKE_STALLED_AFTER_S),
                "jobs": check_jobs(queue, lambda: shutdown.batches < PLACES),
            },
            shutdown.stopping,
            status,
            partial(
                describe_worker,
                queue.consumer,
                status,
                digest_of(settings.recipe_book),
                sandbox,
                settings.decoders,
                settings.budget_mb * MIB,
            ),
        )
        degradation = Degradation(_signs(settings, queue, stores.catalog, stores.blobs, sandbox), status)
        yield App(
            settings=settings,
            queue=queue,
            catalog=stores.catalog,
            blobs=stores.blobs,
            sandbox=sandbox,
            batch=batch,
            publisher=publisher,
            webhooks=webhooks,
            accounting=accounting,
            places=places,
            dispatcher=dispatcher,
            intake=intake,
            limits=LimitsPublisher(settings, queue),
            relay=Relay(
                queue,
                batch_size=settings.batch_size,
                lease_s=settings.lease,
                stopping=shutdown.stopping,
            ),
            health=health,
            degradation=degradation,
            adoption=Adoption(stores.blobs, stores.catalog, grace_s=settings.grace, metrics=metrics),
            outage_log=OutageLog(),
            shutdown=shutdown,
            metrics=metrics,
            status=status,
            sampler=Sampler(
                *(metrics, queue, stores.catalog, stores.blobs, sandbox),
                webhooks=_webhooks_to(settings, stores.catalog),
            ),
        )


def _signs(
    settings: Settings, queue: Queue, catalog: Catalog, blobs: Storage, sandbox: Sandbox
) -> Mapping[str, Check]:
    database = catalog.database
    signs = {
        "memory": watch_memory(lambda: resident() + sandbox.pool.memory(), settings.budget_mb * MIB),
        "queue": watch_queue(queue, catalog.parking),
        SWEEP: now_and_then(watch_sweep(catalog.sweeps)),
        "catalog_log": watch_log(database),
        "space": now_and_then(watch_space(blobs)),
    }
    if webhooks := _webhooks_to(settings, catalog):
        signs["webhooks"] = now_and_then(watch_webhooks(webhooks))
    if settings.backup and settings.backup_cron:
        notes = BackupNotes(database)
        signs["backup"] = now_and_then(watch_backup(notes, settings.backup_cron, database.now_ms))
    return signs


def _webhooks_to(settings: Settings, catalog: Catalog) -> Sequence[Webhooks]:
    return [catalog.webhooks.to(one.name, one.route) for one in WebhookEndpoint.of(settings)]


def _webhooks(
    settings: Settings, stores: Stores, queue: Queue, shutdown: Shutdown, metrics: WorkerMetrics, link: Link
) -> "Sequence[WebhookDeliverer]":
    """What delivers webhooks, one to each endpoint that the settings name."""
    if not (endpoints := WebhookEndpoint.of(settings)):
        return []
    from worker.webhooks.deliverer import WebhookDeliverer  # with an extra
    from worker.webhooks.pacing import CONCURRENCY
    from worker.webhooks.sending import WebhookSender

    catalog = stores.catalog
    return [
        WebhookDeliverer(
            catalog.webhooks.to(endpoint.name, endpoint.route),
            catalog.outbox,
            WebhookSender(endpoint, CONCURRENCY, catalog.webhooks.now_ms),
            catalog.id,
            queue.consumer,
            endpoint.lease_s(settings.lease),
            shutdown.stopping.is_set,
            metrics,
            link,
        )
        for endpoint in endpoints
    ]


def _wake(deliverers: "Sequence[WebhookDeliverer]") -> None:
    for each in deliverers:
        each.wake()


async def _close(deliverers: "Sequence[WebhookDeliverer]") -> None:
    await asyncio.gather(*(each.close() for each in deliverers))


def _show_sandbox(sandbox: Sandbox, settings: Settings, metrics: WorkerMetrics) -> None:
    admission = sandbox.admission
    metrics.show("media_decoders", settings.decoders)
    metrics.show("media_memory_budget_bytes", settings.budget_mb * MIB)
    metrics.show_live("media_decoders_busy", lambda: admission.slots.busy)
    metrics.show_live("media_admission_waiting", lambda: admission.waiting)


async def _prepare(blobs: Storage) -> None:
    """Take a staging folder and try the file system's features; a missing volume may appear later."""
    try:
        await blobs.prepare()
        for lack in await blobs.find_lacks():
            log.warning("file_system_lacks", reason=lack)
    except VolumeMissing as error:
        log.warning("volume_missing", reason=str(error))


async def _make_due(catalog: Catalog, queue: Queue, ids: Sequence[UUID]) -> None:
    try:
        await queue.jobs.make_due(await catalog.claims.make_due(ids))
    except (QueueUnavailable, CatalogUnavailable) as error:
        # They become due at their time.
        log.warning("uploads_not_made_due", uploads=len(ids), reason=str(error))


async def _repeat(
    catalog: Catalog, on_parked: Callable[[], Awaitable[None]], made: Mapping[UUID, int]
) -> None:
    try:
        queued = await catalog.requeuer.requeue_made(made)
        if queued:
            await on_parked()
    except (QueueUnavailable, CatalogUnavailable) as error:  # some may be queued; the others stay as they are
        log.warning("ready_uploads_not_requeued", uploads=len(made), reason=str(error))
    else:
        if queued:
            log.info("originals_written_to_since", uploads=len(queued))
