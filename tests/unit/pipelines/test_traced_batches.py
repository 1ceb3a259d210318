"""A try of an upload is traced from its claim to what became of it."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pipelines.batch import process_uploads
from pipelines.metrics import EndedTry
from pipelines.sandbox import Sandbox
from pipelines.traces import Traces, TryTrace
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, Original
from tests.support.batches import Uploads, batch_context
from tests.support.catalogs import outbox_of
from tests.support.sandboxes import jpeg

OWN = "00-4bf92f3577b34da6a3ce929d0e0e4736-53995c3f42cd8ad8-01"


class RecordedTry(TryTrace):
    """What one try said of itself."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(replace(claim, traceparent=OWN))
        self.stages: list[str] = []
        self.end: EndedTry | None = None
        self.was_left = False

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        self.stages += ms

    def picture_made(self, original: Original, written: int) -> None:
        self.stages.append(original.format)

    def reused(self, kind: str) -> None:
        self.stages.append(kind)

    def ended(self, ended: EndedTry, commit_s: float) -> None:
        assert commit_s > 0
        self.end = ended


class RecordedTraces(Traces):
    """The tries that there were."""

    def __init__(self, kind: type[RecordedTry] = RecordedTry) -> None:
        self._kind = kind
        self.tries: list[RecordedTry] = []

    @contextmanager
    def trying(self, claim: Claim, *, waited_s: float, claimed_s: float) -> Iterator[TryTrace]:
        assert (waited_s >= 0, claimed_s > 0) == (True, True)
        self.tries.append(self._kind(claim))
        try:
            yield self.tries[-1]
        finally:
            self.tries[-1].was_left = True


@pytest.fixture
def traces() -> RecordedTraces:
    return RecordedTraces()


async def test_a_try_tells_its_stages_and_how_it_ended(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads, traces: RecordedTraces
) -> None:
    context = replace(batch_context(catalog, blobs, sandbox), traces=traces)
    for name, content in {"cat.jpg": jpeg(), "cat.pdf": b"%PDF-1.7"}.items():
        upload_id = await uploads.put(name, content)
        await process_uploads([upload_id], await uploads.job_id(upload_id), context)
    upload_id = await uploads.announce("cat.jpg")
    await process_uploads([upload_id], await uploads.job_id(upload_id), context)

    good, bad, again = traces.tries
    assert {"read", "decode", "publish", "jpeg"} <= set(good.stages)
    assert (bad.stages, again.stages) == ([], ["upload", "unchanged"])
    ends = [each.end and (each.end.outcome, each.end.code) for each in traces.tries]
    assert ends == [("ready", None), ("failed", "unsupported_format"), ("ready", None)]
    assert [message.traceparent for message in await outbox_of(catalog)] == [OWN] * 3


class CancelledTry(RecordedTry):
    """A try in the middle of which its worker ends."""

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


async def test_a_try_that_is_cut_short_is_left_all_the_same(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    traces = RecordedTraces(CancelledTry)
    context = replace(batch_context(catalog, blobs, sandbox), traces=traces)
    upload_id = await uploads.put("cat.jpg", jpeg())
    await process_uploads([upload_id], await uploads.job_id(upload_id), context)

    [cut] = traces.tries
    assert (cut.end, cut.was_left) == (None, True)
