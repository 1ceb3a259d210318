"""The poison list: what killed a decoder is not given to another one, for a week or until it is removed."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from pipelines.errors import DecoderCrashed, PictureRefused, PipelineError
from pipelines.poison import POISON_KEPT_MS, PoisonList, remove_poison
from pipelines.recipe import Recipe
from pipelines.sandbox import Sandbox, open_sandbox
from pipelines.upload import make_variants
from storage.blobs.local import LocalBlobs
from storage.catalog import Catalog
from storage.catalog.clock import now_ms
from tests.support import catalogs
from tests.support.sandboxes import BOTH, ROGUE, allowance, children, jpeg, ordered

KILLER = "uploads/killer.jpg"


@pytest.fixture
async def rogue() -> AsyncIterator[Sandbox]:
    """A sandbox whose one decoder does what a picture tells it to."""
    async with open_sandbox(allowance(seconds=0.2), (*ROGUE, "starts")) as sandbox:
        yield sandbox


async def put(blobs: LocalBlobs, key: str, content: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    await blobs.put(key, chunks())


class Pipeline:
    """Where uploads are worked on, one by one."""

    def __init__(self, catalog: Catalog, blobs: LocalBlobs, sandbox: Sandbox) -> None:
        self.catalog = catalog
        self.blobs = blobs
        self.sandbox = sandbox
        self._clock = iter(range(1, 1000))

    def poison(self, version: str = "1") -> PoisonList:
        return PoisonList(self.catalog.poison, version)

    async def work(self, poison: PoisonList, source: str) -> str:
        """Announce the file and work on it; its end in one word."""
        ms = next(self._clock)
        upload = catalogs.upload_event(ms, UUID(int=ms), source)
        await catalogs.take(self.catalog, upload)
        claim = await catalogs.claim(self.catalog, upload.id)
        try:
            await make_variants(claim, Recipe("default", BOTH), self.blobs, self.sandbox, poison)
        except PictureRefused as error:
            return error.code
        except PipelineError as error:
            return type(error).__name__
        return "ready"


@pytest.fixture
def pipeline(catalog: Catalog, local_blobs: LocalBlobs, rogue: Sandbox) -> Pipeline:
    return Pipeline(catalog, local_blobs, rogue)


@pytest.mark.parametrize(
    ("fault", "first", "again"),
    [
        ("abort", "DecoderCrashed", "decoder_crashed"),
        ("not json", "DecoderCrashed", "decoder_crashed"),
        ("spin", "DecodeTimeout", "decode_timeout"),
        ("grow", "too_much_memory", "too_much_memory"),
    ],
)
async def test_what_killed_a_decoder_is_refused_under_another_name_and_costs_no_other(
    pipeline: Pipeline, fault: str, first: str, again: str
) -> None:
    await put(pipeline.blobs, KILLER, ordered(fault))
    await put(pipeline.blobs, "uploads/copy.jpg", ordered(fault))
    await put(pipeline.blobs, "uploads/good.jpg", jpeg())
    poison = pipeline.poison()

    assert await pipeline.work(poison, KILLER) == first
    assert await pipeline.work(poison, "uploads/good.jpg") == "ready"
    decoders = children()
    assert await pipeline.work(poison, "uploads/copy.jpg") == again
    assert await pipeline.work(pipeline.poison(), "uploads/copy.jpg") == again
    assert children() == decoders


async def test_an_innocent_picture_of_the_same_size_is_not_blamed(pipeline: Pipeline) -> None:
    innocent = jpeg() + b"--honest--"[:9]
    await put(pipeline.blobs, KILLER, ordered("abort"))
    await put(pipeline.blobs, "uploads/good.jpg", innocent)
    poison = pipeline.poison()

    assert len(innocent) == len(ordered("abort"))
    assert await pipeline.work(poison, KILLER) == "DecoderCrashed"
    assert await pipeline.work(poison, "uploads/good.jpg") == "ready"


async def test_another_version_of_the_decoder_tries_again(pipeline: Pipeline) -> None:
    await put(pipeline.blobs, KILLER, ordered("abort"))

    assert await pipeline.work(pipeline.poison("1"), KILLER) == "DecoderCrashed"
    assert await pipeline.work(pipeline.poison("2"), KILLER) == "DecoderCrashed"
    assert await pipeline.work(pipeline.poison("1"), KILLER) == "decoder_crashed"


async def test_blame_is_forgotten_after_a_week(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(pipeline.blobs, KILLER, ordered("abort"))
    poison = pipeline.poison()
    with monkeypatch.context() as eight_days_ago:
        then = now_ms() - POISON_KEPT_MS - 1
        eight_days_ago.setattr("storage.catalog.poison.now_ms", lambda: then)
        await pipeline.work(poison, KILLER)
    before = await pipeline.work(poison, KILLER)

    await pipeline.catalog.poison.prune(now_ms() - POISON_KEPT_MS)

    assert before == "decoder_crashed"
    assert await pipeline.work(poison, KILLER) == "DecoderCrashed"


async def test_what_is_removed_is_tried_again_by_every_worker_and_its_memory_brings_nothing_back(
    pipeline: Pipeline,
) -> None:
    await put(pipeline.blobs, KILLER, ordered("abort"))
    poison, elsewhere = pipeline.poison(), pipeline.poison()
    await pipeline.work(poison, KILLER)
    assert await pipeline.work(elsewhere, KILLER) == "decoder_crashed"

    await remove_poison([KILLER, "uploads/gone.jpg"], pipeline.blobs, pipeline.catalog.poison)
    await put(pipeline.blobs, "uploads/other.jpg", ordered("segv"))
    await pipeline.work(elsewhere, "uploads/other.jpg")

    assert await pipeline.work(elsewhere, KILLER) == "DecoderCrashed"


async def test_uploads_that_come_while_the_list_is_read_are_checked_against_it_too(
    pipeline: Pipeline,
) -> None:
    await put(pipeline.blobs, KILLER, ordered("abort"))
    async with pipeline.blobs.open(KILLER) as source:
        await pipeline.poison().add(source, DecoderCrashed("it died"))
        fresh = pipeline.poison()
        answers = await asyncio.gather(*(fresh.check(source) for _ in range(5)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [PictureRefused] * 5
