"""`python -m bench.upload_workload FIRST COUNT TIMES [--counted]`: takes uploads all the way, undecoded.

Neither Redis nor decoders take part: they are processes of their own, and waiting is no work.
"""

import asyncio
import gc
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

from bench.counter import counts_of, say_count
from pipelines.allowance import Allowance
from pipelines.batch import BatchContext, process_uploads
from pipelines.commits import Committer
from pipelines.errors import DecoderUnavailable
from pipelines.formats import MIB
from pipelines.metrics import NO_METRICS, Metrics
from pipelines.outage import Outage
from pipelines.poison import PoisonList
from pipelines.recipe import BUILT_IN, DEFAULT
from pipelines.sandbox import Sandbox
from pipelines.sandbox.output_check import Rendered, RenderedVariant
from pipelines.slots import Slots
from storage.blobs.opening import open_blobs
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import DeadLetter, StreamId, UploadRequested
from worker.retry import classify

_IDS = UUID("0d9e3f57-58f1-4d3b-9d2c-5a35b9f3a6c1")
_AT_ONCE = 4
_PIXELS = bytes(1000)


def upload(counts: Sequence[int], metrics: Metrics) -> None:
    """Record events, claim the uploads, store their variants, commit, and mark messages as sent.

    After each of `counts`, valgrind says what has been counted.
    """
    gc.disable()  # when it would run depends on everything
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        asyncio.run(_uploads(Path(folder), counts, metrics))


async def _uploads(folder: Path, counts: Sequence[int], metrics: Metrics) -> None:
    root = f"file://{folder}/root"
    async with (
        open_catalog(f"sqlite+aiosqlite:///{folder}/catalog.db") as catalog,
        open_blobs(root, create=True) as blobs,
    ):
        await blobs.bind(catalog.id, catalog_is_new=True)
        names = [f"uploads/{number}.jpg" for number in range(sum(counts))]
        await blobs.store([(name, name.encode()) for name in names])
        slots = Slots(_AT_ONCE)
        sandbox = _NoSandbox()
        context = BatchContext(
            holder="bench",
            recipes=BUILT_IN,
            blobs=blobs,
            claims=catalog.claims,
            sandbox=sandbox,
            poison=PoisonList(catalog.poison, "bench"),
            outage=Outage(blobs),
            decoder_outage=Outage(sandbox, DecoderUnavailable),
            committer=Committer(
                catalog.claims, expected=lambda: slots.busy > 0, on_committed=lambda _messages: None
            ),
            slots=slots,
            classify=partial(classify, max_attempts=8),
            may_delete_originals=False,
            stopping=asyncio.Event(),
            metrics=metrics,
        )
        done = 0
        for count in counts:
            for at in range(done, done + count, _AT_ONCE):
                await _batch(catalog, context, names[at : at + _AT_ONCE], at)
            done += count
            say_count()


async def _batch(catalog: Catalog, context: BatchContext, names: Sequence[str], first: int) -> None:
    pairs = []
    for at, name in enumerate(names, first + 1):
        letter = DeadLetter(f"{at}-0", "invalid_event", "not needed", b"")
        pairs.append((UploadRequested(StreamId(at, 0), uuid5(_IDS, name), name, DEFAULT.name), letter))
    taken = await catalog.intake.take(pairs, [])
    for job_id, ids in taken.jobs.items():
        report = await process_uploads(ids, job_id, context)
        if report.outcomes["ready"] != len(ids):
            raise RuntimeError(f"not all are ready: {report}")
    messages = await catalog.outbox.unsent()
    await catalog.outbox.mark_sent(messages)


class _NoSandbox(Sandbox):
    """Has the variants of every picture at once: decoding is counted by itself."""

    def __init__(self) -> None:
        super().__init__(Allowance(_AT_ONCE, 512 * MIB, 100 * MIB, 100_000_000, 10.0))

    @property
    def has_decoders(self) -> bool:
        return True

    async def render(
        self, source_fd: int, source_bytes: int, *_arguments: object, **_options: object
    ) -> Rendered:
        name = os.pread(source_fd, source_bytes, 0)
        made = [
            RenderedVariant(variant.name, variant.box, variant.box, content, _digest(content))
            for variant in DEFAULT.variants
            for content in [name + variant.name.encode() + _PIXELS]
        ]
        ms = dict.fromkeys(("read", "hash", "probe", "decode", "resize", "encode"), 1.0)
        return Rendered(_digest(name), "jpeg", 1920, 1920, "#808080", made, ms)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _metrics(*, counted: bool) -> Metrics:
    if not counted:
        return NO_METRICS
    from worker.metrics import WorkerMetrics  # valgrind takes seconds for the import

    return WorkerMetrics()


if __name__ == "__main__":
    upload(counts_of(sys.argv), _metrics(counted="--counted" in sys.argv))
