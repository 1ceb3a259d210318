"""Sampling: what /metrics shows of queue, stock and room is looked up here now and then, by no scrape."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from pipelines.sandbox import Sandbox
from pipelines.stats.report import STATES
from pipelines.sweep.findings import Kind
from storage.blobs import Room
from storage.catalog.backup_notes import BackupNotes
from storage.catalog.opening import Catalog
from storage.catalog.parking import Parked
from storage.catalog.webhooks import Webhooks
from storage.errors import StorageError
from storage.totals import Count, StorageTotals
from worker.degradation import resident
from worker.metrics import WorkerMetrics
from worker.queue import Queue, QueueUnavailable
from worker.status import STALE_S

INTERVAL_S = 5.0
STOCK_EVERY_S = 60.0
_QUEUE = (
    "media_queue_events",
    "media_queue_oldest_age_seconds",
    "media_queue_jobs",
    "media_workers",
)
_ROOM = ("media_storage_size_bytes", "media_storage_free_bytes")
_WEBHOOKS = "media_webhook_oldest_age_seconds"
_STOCK = ("media_stored_uploads", "media_stored_bytes", "media_drift_files")


class Sampler:
    """Shows in `metrics` how queue, catalog, storage and decoders are; what nobody can say is not shown.

    Nor is what was found out too long ago: the event loop may be blocked, or a server may hang.
    """

    def __init__(
        self,
        metrics: WorkerMetrics,
        queue: Queue,
        catalog: Catalog,
        blobs: Room,
        sandbox: Sandbox,
        *,
        webhooks: Sequence[Webhooks] = (),
    ) -> None:
        self._metrics = metrics
        self._queue = queue
        self._catalog = catalog
        self._backups = BackupNotes(catalog.database.used_for("report"))
        self._blobs = blobs
        self._sandbox = sandbox
        self._webhooks = webhooks
        self._cpu_s = 0.0
        self._next_stock = float("-inf")

    async def run(self) -> None:
        """Sample until cancelled; then nothing of it is shown any more."""
        try:
            while True:
                began = time.monotonic()
                await self.sample()
                await asyncio.sleep(max(0.0, INTERVAL_S - (time.monotonic() - began)))
        finally:
            self._hide(*_QUEUE, *_STOCK, *_ROOM, _WEBHOOKS, "media_memory_bytes")

    def _hide(self, *names: str) -> None:
        for name in names:
            self._metrics.show(name, None)

    async def sample(self) -> None:
        """Look everything up once that is due."""
        self._sample_processes()
        await self._sample_queue()
        await self._sample_webhooks()
        if time.monotonic() >= self._next_stock:
            self._next_stock = time.monotonic() + STOCK_EVERY_S
            await self._sample_stock()
            await self._sample_room()

    def _sample_processes(self) -> None:
        pool = self._sandbox.pool
        memory = {"worker": resident(), "decoders": pool.memory()}
        self._metrics.show("media_memory_bytes", memory, for_s=STALE_S)
        before, self._cpu_s = self._cpu_s, pool.cpu_s()
        self._metrics.decoders_used(self._cpu_s - before)

    async def _sample_queue(self) -> None:
        show = partial(self._metrics.show, for_s=STALE_S)
        try:
            parked = await self._parked()
            oldest_s = max(await self._queue.oldest_age_s() or 0, parked.oldest_ms // 1000)
            show("media_queue_events", await self._queue.depth() + parked.count)
            show("media_queue_oldest_age_seconds", oldest_s)
            show("media_queue_jobs", await self._queue.jobs.counts())
            living = await self._queue.heartbeats.living()
        except QueueUnavailable:
            self._hide(*_QUEUE)
        else:
            healthy = sum(worker.healthy for worker in living)
            show("media_workers", {"healthy": healthy, "unhealthy": len(living) - healthy})

    async def _sample_webhooks(self) -> None:
        try:
            oldest_s = {each.endpoint: await each.oldest_ms() / 1000 for each in self._webhooks}
        except StorageError:
            self._hide(_WEBHOOKS)
        else:
            self._metrics.show(_WEBHOOKS, oldest_s, for_s=STALE_S)

    async def _parked(self) -> Parked:
        """What was taken from the stream and waits for its owner's turn; nothing where nobody can say."""
        try:
            return await self._catalog.parking.all()
        except StorageError:
            return Parked(0, 0)

    async def _sample_stock(self) -> None:
        try:
            totals = await self._catalog.reports.totals(largest=0)
            made, checked = await self._backups.last(), await self._backups.checked()
        except StorageError:
            self._hide(*_STOCK)
            return
        self._show_stock(totals)
        ended_ms = {
            "sweep": totals.sweep.time_ms if totals.sweep and not totals.sweep.stopped else None,
            "snapshot": totals.snapshots[-1].time_ms if totals.snapshots else None,
            "backup": made.time_ms if made else None,
            "backup_check": checked.time_ms if checked and checked.problem is None else None,
        }
        self._metrics.add(
            "media_last_success_timestamp_seconds",
            {task: ms / 1000 for task, ms in ended_ms.items() if ms is not None},
        )

    def _show_stock(self, totals: StorageTotals) -> None:
        show = partial(self._metrics.show, for_s=STALE_S + STOCK_EVERY_S)
        states = totals.grouped("upload", lambda total: total.name)
        counts = {state: found.count for state, found in states.items()}
        show("media_stored_uploads", dict.fromkeys(map(str, STATES), 0) | counts)
        kinds = {"originals": "original", "variants": "variant", "superseded": "superseded"}
        stored = {kind: totals.count(what).bytes for kind, what in kinds.items()}
        sweep = totals.sweep if totals.sweep and totals.sweep.plan else None
        show("media_stored_bytes", stored | ({"trash": sweep.trash.bytes} if sweep else {}))
        drift = {str(kind): sweep.findings.get(kind, Count()).count for kind in Kind} if sweep else None
        show("media_drift_files", drift)

    async def _sample_room(self) -> None:
        show = partial(self._metrics.show, for_s=STALE_S + STOCK_EVERY_S)
        try:
            space = await self._blobs.space()
        except StorageError:
            space = None
        size = space.used_bytes + space.free_bytes if space else None  # without what is reserved for others
        show("media_storage_size_bytes", size)
        show("media_storage_free_bytes", space.free_bytes if space else None)
