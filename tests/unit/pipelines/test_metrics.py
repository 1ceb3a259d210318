"""Metrics count how each upload ended, and how long each stage took."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from pipelines.batch import process_uploads
from pipelines.sandbox import Sandbox
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from tests.support.batches import Uploads, batch_context
from tests.support.metrics import RecordedMetrics
from tests.support.sandboxes import jpeg

Work = Callable[[dict[str, bytes]], Awaitable[RecordedMetrics]]


@pytest.fixture
async def work(catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads) -> Work:
    """Work on pictures one after the other; returns what the metrics received."""

    async def work(contents: dict[str, bytes]) -> RecordedMetrics:
        metrics = RecordedMetrics()
        context = replace(batch_context(catalog, blobs, sandbox), metrics=metrics)
        for name, content in contents.items():
            upload_id = await uploads.put(name, content)
            await process_uploads([upload_id], await uploads.job_id(upload_id), context)
        return metrics

    return work


async def test_each_upload_that_ends_is_counted_with_its_outcome_code_and_time(work: Work) -> None:
    metrics = await work({"cat.jpg": jpeg(), "cat.pdf": b"%PDF-1.7"})

    assert metrics.uploads == [("ready", None), ("failed", "unsupported_format")]
    assert all(0 < seconds < 60 for seconds in metrics.seconds)


async def test_the_stages_of_what_was_made_are_counted_and_of_nothing_else(work: Work) -> None:
    metrics = await work({"cat.jpg": jpeg(), "empty.jpg": b""})

    [stages] = metrics.stages
    assert stages.keys() >= {"read", "hash", "probe", "decode", "resize", "encode", "publish", "upload"}
    assert sum(stages.values()) > 0
