"""The placeholder of an upload: made once with its variants, and later of uploads that have none yet."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from pipelines import missing_placeholders
from pipelines.batch import process_uploads
from pipelines.errors import DecoderFailed, PictureRefused, WorkerKiller
from pipelines.missing_placeholders import attempt_at
from pipelines.placeholders import Kind, Placeholder, thumbhash
from pipelines.recipe import DEFAULT, Recipe, Variant
from pipelines.reprocess import Selected, Selection
from pipelines.sandbox import Sandbox, open_sandbox
from pipelines.upload import Made
from storage.catalog.backfill import Filter
from storage.catalog.sources import Sources
from tests.support.batches import Pipeline, Uploads, batch_context
from tests.support.blobs import on_files
from tests.support.sandboxes import allowance, children, jpeg, ordered

pytestmark = [on_files, pytest.mark.rotating(19, of="module")]

BLUR = replace(DEFAULT, placeholder="blurhash")
NONE = replace(DEFAULT, placeholder="none")


@pytest.fixture
def pipeline(uploads: Uploads, rogue: Sandbox) -> Pipeline:
    """Whose decoder makes the same placeholder of each small picture."""
    return Pipeline(uploads, rogue)


def placeholder(made: Made) -> Placeholder:
    original = made.outcome.original
    return Placeholder(original.thumbhash, original.blurhash)


async def forget(pipeline: Pipeline) -> None:
    """As if a worker of the version before had made them."""
    async with pipeline.catalog.database.writing() as connection:
        await connection.execute(text("UPDATE uploads SET thumbhash = NULL, blurhash = NULL"))


async def test_an_upload_has_a_thumbhash_of_at_most_25_bytes_and_other_content_another(
    uploads: Uploads, sandbox: Sandbox
) -> None:
    pipeline = Pipeline(uploads, sandbox)
    contents = jpeg(1000, 500), jpeg(500, 1000, (10, 200, 10))
    first, second = [placeholder(await pipeline.put("cat.jpg", one)).thumbhash for one in contents]

    assert first is not None
    assert thumbhash.is_whole(first)
    assert second not in (None, first)


@pytest.mark.parametrize("touched", [False, True])
async def test_unchanged_content_keeps_its_placeholder_without_being_decoded(
    pipeline: Pipeline, touched: bool
) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    if touched:
        os.utime(pipeline.uploads.path("cat.jpg"), (0, 0))
    second = await pipeline.again("cat.jpg")

    assert placeholder(second) == placeholder(first)
    assert not second.is_decoded


@pytest.mark.parametrize("touched", [False, True])
async def test_an_upload_that_has_none_gets_one_when_it_is_processed_again(
    pipeline: Pipeline, touched: bool
) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    await forget(pipeline)
    if touched:
        os.utime(pipeline.uploads.path("cat.jpg"), (0, 0))
    before = await pipeline.blobs.stat([one.key for one in first.outcome.variants])
    second = await pipeline.again("cat.jpg")

    assert placeholder(second) == placeholder(first)
    assert second.outcome.variants == first.outcome.variants
    assert second.written == 0
    assert await pipeline.blobs.stat([one.key for one in first.outcome.variants]) == before


@pytest.mark.parametrize(
    ("recipes", "kinds"),
    [
        ((DEFAULT, BLUR), ("thumbhash", "blurhash")),
        ((BLUR, DEFAULT), ("blurhash", "thumbhash")),
        ((DEFAULT, NONE), ("thumbhash", "none")),
        ((BLUR, NONE), ("blurhash", "none")),
        ((NONE, NONE), ("none", "none")),
    ],
)
async def test_the_placeholder_becomes_what_the_recipe_asks_for(
    pipeline: Pipeline, recipes: tuple[Recipe, Recipe], kinds: tuple[Kind, Kind]
) -> None:
    await pipeline.uploads.put("cat.jpg", jpeg())
    first = await pipeline.make("cat.jpg", recipes[0])
    second = await pipeline.again("cat.jpg", recipes[1])

    assert (placeholder(first).kind, placeholder(second).kind) == kinds
    assert second.outcome.variants == first.outcome.variants


async def test_a_variant_that_is_added_changes_no_placeholder(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    more = replace(DEFAULT, variants=(*DEFAULT.variants, Variant("xlarge", 2560)))

    assert placeholder(await pipeline.again("cat.jpg", more)) == placeholder(first)


async def test_a_size_and_a_placeholder_that_are_missing_are_made_together(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    await forget(pipeline)
    more = replace(DEFAULT, variants=(*DEFAULT.variants, Variant("xlarge", 2560)))
    second = await pipeline.again("cat.jpg", more)

    assert placeholder(second) == placeholder(first)
    assert second.outcome.variants[:3] == first.outcome.variants
    assert second.written == second.outcome.variants[3].bytes


async def made_before(uploads: Uploads, rogue: Sandbox, fault: str) -> tuple[Pipeline, Made]:
    """What a decoder of before has made of content that is too much for the one of now."""
    async with open_sandbox(allowance()) as before:
        made = await Pipeline(uploads, before).put("cat.jpg", ordered(fault))
    pipeline = Pipeline(uploads, rogue)
    await forget(pipeline)
    return pipeline, made


OF_THE_PICTURE = ["refuse colourfully", "abort", "a bug", "no placeholder"]
OF_THE_MACHINE = ["killed", "starved"]


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("fault", [*OF_THE_PICTURE, *OF_THE_MACHINE])
@pytest.mark.rotating(4)
async def test_what_is_served_stays_ready_although_no_decoder_makes_its_placeholder(
    uploads: Uploads, rogue: Sandbox, fault: str, touched: bool
) -> None:
    pipeline, first = await made_before(uploads, rogue, fault)
    if touched:
        os.utime(pipeline.uploads.path("cat.jpg"), (0, 0))
    second = await pipeline.again("cat.jpg")

    assert second.outcome.variants == first.outcome.variants
    assert placeholder(second).kind == "none"
    assert second.reused == ("known_content" if touched else "unchanged")


@pytest.mark.parametrize(
    ("fault", "code"), [("a bug", "internal_error"), ("refuse colourfully", "corrupt_image")]
)
async def test_what_no_decoder_makes_a_placeholder_of_is_ready_and_the_report_says_why(
    uploads: Uploads, rogue: Sandbox, fault: str, code: str
) -> None:
    pipeline, _ = await made_before(uploads, rogue, fault)
    upload_id = await uploads.announce("cat.jpg")
    context = batch_context(pipeline.catalog, pipeline.blobs, rogue)
    report = await process_uploads([upload_id], await uploads.job_id(upload_id), context)

    [(told, told_code, _)] = report.undecoded
    assert (report.outcomes["ready"], report.failures) == (1, [])
    assert (told, told_code) == (upload_id, code)


async def test_a_file_that_was_only_touched_stays_ready_although_its_decoder_stumbles(
    uploads: Uploads, rogue: Sandbox
) -> None:
    async with open_sandbox(allowance()) as before:
        first = await Pipeline(uploads, before).put("cat.jpg", ordered("a bug"))
    os.utime(uploads.path("cat.jpg"), (0, 0))
    pipeline = Pipeline(uploads, rogue)
    second = await pipeline.again("cat.jpg")
    third = await pipeline.again("cat.jpg")

    assert first.outcome.original == replace(second.outcome.original, stamp=first.outcome.original.stamp)
    assert third.reused == "unchanged"


class CountedSandbox(Sandbox):
    """Counts what it is asked to make."""

    def __init__(self) -> None:
        super().__init__(allowance())
        self.asked: list[list[str]] = []

    async def render(self, *args: Any, missing: Sequence[Variant] = (), **more: Any) -> Any:
        self.asked.append([variant.name for variant in missing])
        return await super().render(*args, missing=missing, **more)


async def test_a_placeholder_is_made_with_the_smallest_variant_whatever_the_order_of_the_recipe(
    uploads: Uploads,
) -> None:
    sandbox = CountedSandbox()
    pipeline = Pipeline(uploads, sandbox)
    backwards = replace(DEFAULT, variants=DEFAULT.variants[::-1])
    await pipeline.put("cat.jpg", jpeg())
    await forget(pipeline)
    second = await pipeline.again("cat.jpg", backwards)
    await sandbox.pool.close()

    assert sandbox.asked == [["thumb", "medium", "large"], ["thumb"]]
    assert placeholder(second).kind == "thumbhash"


async def test_what_is_served_stays_ready_although_it_kills_its_decoder_by_now_and_kills_one_alone(
    uploads: Uploads, rogue: Sandbox
) -> None:
    pipeline, first = await made_before(uploads, rogue, "abort")
    second = await pipeline.again("cat.jpg")
    pipeline.sandbox = Sandbox(allowance())
    decoders = set(children())
    third = await pipeline.again("cat.jpg")

    assert first.outcome.variants == second.outcome.variants == third.outcome.variants
    assert set(children()) == decoders


async def test_other_content_fails_although_what_it_replaces_lacked_only_its_placeholder(
    uploads: Uploads, rogue: Sandbox
) -> None:
    pipeline, _ = await made_before(uploads, rogue, "a bug")
    await uploads.store("cat.jpg", ordered("a long bug"))

    with pytest.raises(DecoderFailed):
        await pipeline.again("cat.jpg")


async def test_a_size_that_cannot_be_made_any_more_is_refused_although_others_are_served(
    uploads: Uploads, rogue: Sandbox
) -> None:
    pipeline, _ = await made_before(uploads, rogue, "refuse colourfully")
    more = replace(DEFAULT, variants=(*DEFAULT.variants, Variant("xlarge", 2560)))

    with pytest.raises(PictureRefused):
        await pipeline.again("cat.jpg", more)


async def test_what_is_served_stays_ready_where_workers_died_and_nothing_may_be_decoded(
    uploads: Uploads, rogue: Sandbox
) -> None:
    pipeline, first = await made_before(uploads, rogue, "abort")
    await uploads.announce("cat.jpg")
    decoders = set(children())
    second = await pipeline.render(await uploads.claim("cat.jpg"), may_decode=False)
    await uploads.put("dog.jpg", jpeg())

    assert second.outcome.variants == first.outcome.variants
    assert set(children()) == decoders
    with pytest.raises(WorkerKiller):
        await pipeline.render(await uploads.claim("dog.jpg"), may_decode=False)


async def selected(pipeline: Pipeline, recipe: Recipe = DEFAULT) -> Selected:
    """What `media reprocess --stale` would queue, and what it would leave alone."""
    selection = Selection(Filter(), None, stale=True, missing=False)
    page, sources = await pipeline.catalog.backfill.page(Filter(), "", 10), Sources(pipeline.catalog.database)
    return await selection.among(page, {"default": recipe}, pipeline.blobs, sources)


async def stale(pipeline: Pipeline, recipe: Recipe = DEFAULT) -> int:
    """How many uploads `media reprocess --stale` would queue."""
    return len((await selected(pipeline, recipe)).uploads)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "it has 0 bytes, and its ready upload has"), (None, "it is gone")]
)
async def test_what_is_served_is_not_made_again_where_its_original_is_torn_or_gone(
    pipeline: Pipeline, content: bytes | None, reason: str
) -> None:
    await pipeline.put("cat.jpg", jpeg())
    if content is None:
        await pipeline.blobs.delete("uploads/cat.jpg")
    else:
        await pipeline.uploads.store("cat.jpg", content)
    await forget(pipeline)
    found = await selected(pipeline)

    assert not found.uploads
    assert found.differing["uploads/cat.jpg"].startswith(reason)


async def test_a_placeholder_that_nobody_wants_any_more_goes_without_a_decoder(pipeline: Pipeline) -> None:
    await pipeline.put("cat.jpg", jpeg())
    made = await pipeline.again("cat.jpg", NONE)

    assert (placeholder(made).kind, made.is_decoded) == ("none", False)
    assert await stale(pipeline, NONE) == 0


async def test_uploads_with_another_placeholder_than_their_recipe_asks_for_are_stale(
    pipeline: Pipeline,
) -> None:
    await pipeline.put("cat.jpg", jpeg())

    assert [await stale(pipeline, recipe) for recipe in (DEFAULT, BLUR, NONE)] == [0, 1, 1]


async def test_an_upload_whose_variants_are_not_those_of_its_recipe_is_stale(pipeline: Pipeline) -> None:
    await pipeline.put("cat.jpg", jpeg())
    thumb, medium, large = DEFAULT.variants
    others = [(thumb, medium), (thumb, medium, large, Variant("xlarge", 2560))]
    others += [(thumb, medium, replace(large, quality=90))]

    assert [await stale(pipeline, replace(DEFAULT, variants=some)) for some in others] == [1, 1, 1]


async def test_an_upload_whose_recipe_is_gone_is_not_stale(pipeline: Pipeline) -> None:
    await pipeline.put("cat.jpg", jpeg())
    selection = Selection(Filter(), None, stale=True, missing=False)
    page, sources = await pipeline.catalog.backfill.page(Filter(), "", 10), Sources(pipeline.catalog.database)

    assert not (await selection.among(page, {}, pipeline.blobs, sources)).uploads


@pytest.mark.parametrize("fault", OF_THE_PICTURE)
async def test_an_upload_of_which_no_placeholder_can_be_made_is_not_stale_again(
    uploads: Uploads, rogue: Sandbox, fault: str
) -> None:
    pipeline, _ = await made_before(uploads, rogue, fault)
    before = await stale(pipeline)
    await pipeline.again("cat.jpg")

    assert (before, await stale(pipeline)) == (1, 0)
    assert await stale(pipeline, BLUR) == 1  # which nobody has tried
    more = replace(DEFAULT, variants=(*DEFAULT.variants, Variant("xlarge", 2560)))
    assert await stale(pipeline, more) == 1


@pytest.mark.parametrize("newer", ["decoder_version", "version"])
async def test_a_newer_version_tries_again_to_make_a_placeholder(
    uploads: Uploads, rogue: Sandbox, monkeypatch: pytest.MonkeyPatch, newer: str
) -> None:
    pipeline, _ = await made_before(uploads, rogue, "refuse colourfully")
    await pipeline.again("cat.jpg")
    monkeypatch.setattr(missing_placeholders, newer, lambda *_: "99")
    attempt_at.cache_clear()
    found = await stale(pipeline)
    attempt_at.cache_clear()

    assert found == 1


@pytest.mark.parametrize("fault", OF_THE_MACHINE)
async def test_what_the_machine_kept_from_being_made_stays_stale(
    uploads: Uploads, rogue: Sandbox, fault: str
) -> None:
    pipeline, _ = await made_before(uploads, rogue, fault)
    await pipeline.again("cat.jpg")

    assert await stale(pipeline) == 1


async def test_an_event_tries_again_to_make_a_placeholder(uploads: Uploads, rogue: Sandbox) -> None:
    pipeline, _ = await made_before(uploads, rogue, "starved")
    first = await pipeline.again("cat.jpg")
    async with open_sandbox(allowance()) as pipeline.sandbox:
        second = await pipeline.again("cat.jpg")

    assert [placeholder(made).kind for made in (first, second)] == ["none", "thumbhash"]
