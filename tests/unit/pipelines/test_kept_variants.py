"""What is stored under a name: it keeps its bytes and its time, and only what is missing is made."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from pipelines import upload
from pipelines.recipe import DEFAULT, Recipe, Variant
from pipelines.sandbox import Sandbox
from pipelines.upload import Made, key_of
from storage.blobs import Existence
from storage.catalog.records import State
from storage.errors import BlobsUnavailable
from tests.support import pictures
from tests.support.batches import Pipeline, Uploads
from tests.support.blobs import on_both, on_files
from tests.support.sandboxes import allowance, descriptor, jpeg, render
from worker.settings import Settings

ADDED = {
    "larger": Variant("xlarge", 2560),
    "between": Variant("card", 400),
    "smaller": Variant("tiny", 16),
    "cropped": Variant("square", 100, fit="cover", crop="attention"),
    "darker": Variant("dark", 64, background=(0, 0, 0)),
}

PHOTO = pictures.wide()


@pytest.fixture
def pipeline(uploads: Uploads, sandbox: Sandbox) -> Pipeline:
    return Pipeline(uploads, sandbox)


def with_more(*added: Variant) -> Recipe:
    return Recipe("default", [*DEFAULT.variants, *added])


def keys(made: Made) -> list[str]:
    return [variant.key for variant in made.outcome.variants]


@pytest.mark.parametrize("kind", ADDED)
@on_both
@pytest.mark.rotating(3)
async def test_adding_a_size_makes_that_one_alone_and_leaves_the_others(
    pipeline: Pipeline, kind: str
) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    before = await pipeline.blobs.stat(keys(first)), await pipeline.uploads.variants()
    second = await pipeline.again("cat.jpg", with_more(ADDED[kind]))
    *kept, added = second.outcome.variants

    assert kept == list(first.outcome.variants)
    assert await pipeline.blobs.stat(keys(first)) == before[0]
    assert before[1].items() <= (await pipeline.uploads.variants()).items()
    assert (await pipeline.uploads.variants())[added.key] == added.sha256
    assert second.written == added.bytes


async def test_what_was_read_of_the_original_stays_when_a_size_is_added(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    second = await pipeline.again("cat.jpg", with_more(ADDED["smaller"], ADDED["larger"]))

    assert second.outcome.original == first.outcome.original


def transparent() -> bytes:
    """A wide picture with transparency and detail."""
    picture = Image.linear_gradient("L").resize((1600, 300)).convert("RGBA")
    picture.putalpha(Image.radial_gradient("L").resize((1600, 300)))
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


async def made_alone(sandbox: Sandbox, content: bytes, missing: Sequence[Variant]) -> dict[str, str]:
    whole = with_more(*ADDED.values()).variants
    known = await render(sandbox, content, whole[:1])
    assert known is not None
    with descriptor(content) as source:
        rendered = await sandbox.render(source, len(content), whole, known.sha256, missing=missing)
    assert rendered is not None
    return {made.name: made.sha256 for made in rendered.variants}


@pytest.mark.parametrize("content", [PHOTO, transparent()], ids=["photo", "transparent"])
@pytest.mark.rotating(1)
async def test_a_variant_that_is_made_alone_has_the_bytes_that_it_gets_beside_the_others(
    sandbox: Sandbox, content: bytes
) -> None:
    whole = with_more(*ADDED.values()).variants
    rendered = await render(sandbox, content, whole)
    assert rendered is not None
    expected = {made.name: made.sha256 for made in rendered.variants}

    for missing in [*combinations(whole, 1), whole[2:5]]:
        made = await made_alone(sandbox, content, missing)
        assert made == {one.name: expected[one.name] for one in missing}


async def test_other_content_is_made_whole_although_little_was_missing(sandbox: Sandbox) -> None:
    with descriptor(PHOTO) as source:
        rendered = await sandbox.render(
            source, len(PHOTO), DEFAULT.variants, "0" * 64, missing=DEFAULT.variants[:1]
        )

    assert rendered is not None
    assert [made.name for made in rendered.variants] == ["thumb", "medium", "large"]


@on_both
async def test_a_lost_file_is_made_again_to_the_same_bytes_and_alone(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    lost = first.outcome.variants[1]
    others = [key for key in keys(first) if key != lost.key]
    before = await pipeline.blobs.stat(others)
    await pipeline.blobs.delete(lost.key)
    second = await pipeline.again("cat.jpg")

    assert second.outcome.variants == first.outcome.variants
    assert (await pipeline.uploads.variants())[lost.key] == lost.sha256
    assert await pipeline.blobs.stat(others) == before
    assert second.written == lost.bytes


@on_both
async def test_a_truncated_file_is_made_again_alone_whenever_its_upload_is_processed(
    pipeline: Pipeline,
) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    torn, *others = first.outcome.variants
    await pipeline.blobs.store([(torn.key, (await pipeline.blobs.get(torn.key))[:-1])])
    before = await pipeline.blobs.stat([one.key for one in others])
    second = await pipeline.again("cat.jpg")

    assert second.outcome.variants == first.outcome.variants
    assert (await pipeline.uploads.variants())[torn.key] == torn.sha256
    assert await pipeline.blobs.stat([one.key for one in others]) == before
    assert second.written == torn.bytes


async def test_a_file_that_is_lost_after_a_size_was_added_keeps_its_name_and_its_row_is_true(
    pipeline: Pipeline,
) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    await pipeline.again("cat.jpg", with_more(ADDED["larger"]))
    await pipeline.blobs.delete(first.outcome.variants[1].key)
    third = await pipeline.again("cat.jpg", with_more(ADDED["larger"]))

    stored = await pipeline.uploads.variants()
    assert keys(third)[:3] == keys(first)
    assert {one.key: one.sha256 for one in third.outcome.variants} == stored


@on_files
async def test_nothing_is_made_while_the_storage_does_not_say_whether_a_file_is_there(
    pipeline: Pipeline, root: Path
) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    thumb = root / keys(first)[0]
    thumb.rename(root / "elsewhere")
    thumb.symlink_to(root / "elsewhere")

    with pytest.raises(BlobsUnavailable):
        await pipeline.again("cat.jpg")
    assert thumb.is_symlink()


@on_both
async def test_a_damaged_file_is_replaced_alone_by_the_bytes_that_it_had(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    damaged, *others = first.outcome.variants
    await pipeline.blobs.store([(damaged.key, b"damaged")])
    before = await pipeline.blobs.stat([one.key for one in others])
    await pipeline.catalog.requeuer.requeue_damaged({damaged.key: damaged.sha256})
    second = await pipeline.make("cat.jpg")

    assert second.outcome.variants == first.outcome.variants
    assert second.outcome.original == first.outcome.original
    assert (await pipeline.uploads.variants())[damaged.key] == damaged.sha256
    assert await pipeline.blobs.stat([one.key for one in others]) == before
    assert second.written == damaged.bytes


@on_both
async def test_superseded_variants_come_back_as_they_are_and_nothing_is_decoded(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    thumb, *others = DEFAULT.variants
    await pipeline.again("cat.jpg", Recipe("default", [replace(thumb, quality=50), *others[:1]]))
    before = await pipeline.blobs.stat(keys(first))
    pipeline.sandbox = Sandbox(allowance())
    third = await pipeline.again("cat.jpg")

    assert third.outcome.variants == first.outcome.variants
    assert third.reused == "unchanged"
    assert await pipeline.blobs.stat(keys(first)) == before


async def test_a_worker_that_died_before_it_committed_has_changed_no_stored_file(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", PHOTO)
    before = await pipeline.blobs.stat(keys(first))
    recipe = with_more(ADDED["larger"])
    await pipeline.uploads.announce("cat.jpg")
    died = await pipeline.render(await pipeline.uploads.claim("cat.jpg", "dies"), recipe)
    retried = await pipeline.make("cat.jpg", recipe)

    assert retried.outcome.variants == died.outcome.variants
    assert await pipeline.blobs.stat(keys(first)) == before


async def test_a_worker_that_was_frozen_replaces_nothing_that_another_has_made(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_LONG_S", 0.0)
    await pipeline.uploads.put("cat.jpg", PHOTO)
    frozen = await pipeline.uploads.claim("cat.jpg", "frozen")
    made = await pipeline.make("cat.jpg", with_more(ADDED["larger"]))
    before = await pipeline.blobs.stat(keys(made))
    woken = await pipeline.render(frozen)
    [committed] = await pipeline.catalog.claims.commit([woken.outcome])

    assert committed.state is None
    assert Existence.MISSING not in before.values()  # who holds its claim stores, however long it took
    assert await pipeline.blobs.stat(keys(made)) == before
    assert (await pipeline.catalog.reports.states())[State.READY] == 1


def test_whoever_may_have_been_taken_for_frozen_asks_whether_its_claim_holds() -> None:
    bounds = Settings.model_fields["lease"].metadata

    assert [bound.ge >= upload._LONG_S for bound in bounds if hasattr(bound, "ge")] == [True]


async def test_the_name_of_a_variant_says_nothing_of_the_recipe_around_it(pipeline: Pipeline) -> None:
    made = await pipeline.put("cat.jpg", jpeg())
    original = made.outcome.original
    names = [key_of(made.outcome.claim.upload.id, one, original.sha256) for one in DEFAULT.variants]

    assert keys(made) == names
