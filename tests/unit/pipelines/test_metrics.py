"""Metrics count how each upload ended, and how long each stage took."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from pipelines.batch import process_uploads
from pipelines.errors import PipelineError
from pipelines.sandbox import Sandbox, open_sandbox
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from tests.support.batches import Uploads, batch_context
from tests.support.metrics import RecordedMetrics
from tests.support.sandboxes import BOTH, ROGUE, allowance, descriptor, jpeg, ordered

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


async def test_an_original_that_is_waited_for_is_no_failure_yet(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    metrics = RecordedMetrics()
    context = replace(batch_context(catalog, blobs, sandbox), metrics=metrics)
    upload_id = await uploads.announce("cat.jpg")
    await process_uploads([upload_id], await uploads.job_id(upload_id), context)

    assert metrics.uploads == [("queued", None)]


async def test_the_stages_of_what_was_made_are_counted_and_of_nothing_else(work: Work) -> None:
    metrics = await work({"cat.jpg": jpeg(), "empty.jpg": b""})

    [stages] = metrics.stages
    assert stages.keys() >= {"read", "hash", "probe", "decode", "resize", "encode", "publish", "upload"}
    assert sum(stages.values()) > 0


async def test_each_upload_has_waited_for_its_turn_and_for_its_commit(work: Work) -> None:
    metrics = await work({"cat.jpg": jpeg(), "empty.jpg": b""})

    assert metrics.waits == ["wait", "commit"] * 2


async def test_a_picture_that_was_decoded_is_counted_with_its_pixels_and_bytes(
    work: Work, uploads: Uploads
) -> None:
    picture = jpeg(40, 30)
    metrics = await work({"cat.jpg": picture, "cat.pdf": b"%PDF-1.7"})

    [(picture_format, pixels, read, written)] = metrics.pictures
    assert (picture_format, pixels, read) == ("jpeg", 1200, len(picture))
    assert written == sum([len(await uploads.blobs.get(key)) for key in await uploads.variants()])


async def test_work_that_is_saved_is_counted_by_why(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    metrics = RecordedMetrics()
    context = replace(batch_context(catalog, blobs, sandbox), metrics=metrics)
    for content in (jpeg(), None, jpeg()):
        upload_id = await uploads.put("cat.jpg", content) if content else await uploads.announce("cat.jpg")
        await process_uploads([upload_id], await uploads.job_id(upload_id), context)

    assert metrics.reuses == ["unchanged", "known_content"]
    assert len(metrics.pictures) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("segv", "crashed"),
        ("hang", "timeout"),
        ("grow", "bloated"),
        ("killed", "killed"),
        ("grow and keep", "fat"),
    ],
)
async def test_a_decoder_that_is_ended_is_counted_with_why(fault: str, reason: str) -> None:
    metrics = RecordedMetrics()
    async with open_sandbox(
        allowance(seconds=0.2 if fault == "hang" else 5), (*ROGUE, "starts"), metrics
    ) as rogue:
        with suppress(PipelineError), descriptor(ordered(fault)) as source:
            await rogue.render(source, len(ordered(fault)), BOTH, None)

    assert metrics.kills[reason] >= 1
    assert metrics.starts["vips"] >= 1
    assert "other" not in metrics.kills
