"""The poison list: what killed a decoder is not given to another one, for a week or until it is removed."""

import asyncio

import pytest

from pipelines.errors import DecoderCrashed, PictureRefused, PipelineError
from pipelines.poison import POISON_KEPT_MS, PoisonList, remove_poison
from pipelines.sandbox import Sandbox
from storage.catalog.clock import now_ms
from tests.support.batches import Pipeline, Uploads
from tests.support.sandboxes import children, jpeg, ordered

KILLER = "killer.jpg"


@pytest.fixture
def pipeline(uploads: Uploads, rogue: Sandbox) -> Pipeline:
    return Pipeline(uploads, rogue)


def list_of(pipeline: Pipeline, version: str = "1") -> PoisonList:
    """The list as a worker with decoders of that version reads it."""
    return PoisonList(pipeline.catalog.poison, version)


async def work(pipeline: Pipeline, poison: PoisonList, name: str) -> str:
    """Announce the picture and work on it; its end in one word."""
    pipeline.poison = poison
    try:
        await pipeline.again(name)
    except PictureRefused as error:
        return error.code
    except PipelineError as error:
        return type(error).__name__
    return "ready"


@pytest.mark.parametrize(
    ("fault", "first", "again"),
    [
        ("abort", "DecoderCrashed", "decoder_crashed"),
        ("not json", "DecoderCrashed", "decoder_crashed"),
        ("spin", "DecodeTimeout", "decode_timeout"),
        ("grow", "too_much_memory", "too_much_memory"),
    ],
)
@pytest.mark.rotating(2)
async def test_what_killed_a_decoder_is_refused_under_another_name_and_costs_no_other(
    pipeline: Pipeline, fault: str, first: str, again: str
) -> None:
    await pipeline.uploads.store(KILLER, ordered(fault))
    await pipeline.uploads.store("copy.jpg", ordered(fault))
    await pipeline.uploads.store("good.jpg", jpeg())
    poison = list_of(pipeline)

    assert await work(pipeline, poison, KILLER) == first
    assert await work(pipeline, poison, "good.jpg") == "ready"
    decoders = children()
    assert await work(pipeline, poison, "copy.jpg") == again
    assert await work(pipeline, list_of(pipeline), "copy.jpg") == again
    assert children().keys() == decoders.keys()


async def test_another_picture_of_the_same_size_is_not_on_the_list(pipeline: Pipeline) -> None:
    innocent = jpeg() + b"--honest--"[:9]
    await pipeline.uploads.store(KILLER, ordered("abort"))
    await pipeline.uploads.store("good.jpg", innocent)
    poison = list_of(pipeline)

    assert len(innocent) == len(ordered("abort"))
    assert await work(pipeline, poison, KILLER) == "DecoderCrashed"
    assert await work(pipeline, poison, "good.jpg") == "ready"


async def test_another_version_of_the_decoder_tries_again(pipeline: Pipeline) -> None:
    await pipeline.uploads.store(KILLER, ordered("abort"))

    assert await work(pipeline, list_of(pipeline, "1"), KILLER) == "DecoderCrashed"
    assert await work(pipeline, list_of(pipeline, "2"), KILLER) == "DecoderCrashed"
    assert await work(pipeline, list_of(pipeline, "1"), KILLER) == "decoder_crashed"


async def test_the_list_forgets_after_a_week(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    await pipeline.uploads.store(KILLER, ordered("abort"))
    poison = list_of(pipeline)
    with monkeypatch.context() as eight_days_ago:
        then = now_ms() - POISON_KEPT_MS - 1
        eight_days_ago.setattr("storage.catalog.clock.wall_ns", lambda: then * 1_000_000)
        await work(pipeline, poison, KILLER)
    before = await work(pipeline, poison, KILLER)

    await pipeline.catalog.poison.prune(now_ms() - POISON_KEPT_MS)

    assert before == "decoder_crashed"
    assert await work(pipeline, poison, KILLER) == "DecoderCrashed"


async def test_what_is_removed_is_tried_again_by_every_worker_and_its_memory_brings_nothing_back(
    pipeline: Pipeline,
) -> None:
    await pipeline.uploads.store(KILLER, ordered("abort"))
    poison, elsewhere = list_of(pipeline), list_of(pipeline)
    await work(pipeline, poison, KILLER)
    assert await work(pipeline, elsewhere, KILLER) == "decoder_crashed"

    await remove_poison([f"uploads/{KILLER}", "uploads/gone.jpg"], pipeline.blobs, pipeline.catalog.poison)
    await pipeline.uploads.store("other.jpg", ordered("segv"))
    await work(pipeline, elsewhere, "other.jpg")

    assert await work(pipeline, elsewhere, KILLER) == "DecoderCrashed"


async def test_uploads_that_come_while_the_list_is_read_are_checked_against_it_too(
    pipeline: Pipeline,
) -> None:
    await pipeline.uploads.store(KILLER, ordered("abort"))
    fresh = list_of(pipeline)

    async def check() -> None:
        async with pipeline.blobs.open(f"uploads/{KILLER}") as source:
            await fresh.check(source)

    async with pipeline.blobs.open(f"uploads/{KILLER}") as source:
        await list_of(pipeline).add(source, DecoderCrashed("it died"))
    answers = await asyncio.gather(*(check() for _ in range(5)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [PictureRefused] * 5
