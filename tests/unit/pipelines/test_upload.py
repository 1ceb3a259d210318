"""One upload: read once, decoded once, published whole, and not made again without need."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipelines.errors import DecoderCrashed, PictureRefused, SourceChanged
from pipelines.poison import PoisonList
from pipelines.recipe import DEFAULT, Recipe, Variant
from pipelines.sandbox import Sandbox
from pipelines.upload import Made, remove_upload
from storage.blobs import Source
from storage.catalog.records import Claim, StoredVariant
from storage.errors import BlobNotFound, BlobRefused
from tests.support import pictures
from tests.support.batches import Pipeline, Uploads
from tests.support.blobs import is_there, listed, on_both, on_files
from tests.support.sandboxes import allowance, children, jpeg, ordered


@pytest.fixture
def pipeline(uploads: Uploads, sandbox: Sandbox) -> Pipeline:
    return Pipeline(uploads, sandbox)


@pytest.fixture
def rogue_pipeline(uploads: Uploads, rogue: Sandbox) -> Pipeline:
    return Pipeline(uploads, rogue)


def keys(made: Made) -> list[str]:
    return [variant.key for variant in made.outcome.variants]


async def files(pipeline: Pipeline, variants: list[str]) -> object:
    """Which file each variant is, and when it was written."""
    return await pipeline.blobs.stat(variants)


# -- made


@on_both
async def test_an_upload_becomes_a_file_for_each_variant_of_the_reported_size_and_digest(
    pipeline: Pipeline,
) -> None:
    made = await pipeline.put("cat.jpg", jpeg(1000, 500, (0, 128, 0)))

    expected = [("thumb", 150, 75), ("medium", 800, 400), ("large", 1000, 500)]
    assert [(each.name, each.width, each.height) for each in made.outcome.variants] == expected
    for variant in made.outcome.variants:
        content = await pipeline.blobs.get(variant.key)
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (variant.width, variant.height)
            assert picture.format == "JPEG"
        assert (await pipeline.uploads.variants())[variant.key] == variant.sha256
        assert len(content) == variant.bytes


async def test_what_was_read_of_the_original_is_in_the_outcome(pipeline: Pipeline) -> None:
    content = jpeg(64, 48, (250, 0, 0))
    original = (await pipeline.put("cat.jpg", content)).outcome.original

    assert (original.width, original.height, original.format, original.bytes) == (
        64,
        48,
        "jpeg",
        len(content),
    )
    assert original.color is not None
    assert original.color.startswith("#f")


async def test_names_are_those_that_the_recipe_derives(pipeline: Pipeline) -> None:
    made = await pipeline.put("cat.jpg", jpeg())
    upload_id, original = made.outcome.claim.upload.id, made.outcome.original

    expected = [str(variant.uuid(upload_id, original.sha256)) for variant in DEFAULT.variants]
    assert [Path(key).stem for key in keys(made)] == expected


@on_files
async def test_nothing_staged_is_left(pipeline: Pipeline) -> None:
    await pipeline.put("cat.jpg", jpeg())
    with pytest.raises(PictureRefused):
        await pipeline.put("dog.jpg", b"no picture")

    assert pipeline.uploads.staged() == []


# -- not made again


async def test_an_unchanged_file_is_not_even_read(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    before = await files(pipeline, keys(first))
    idle = Sandbox(allowance())
    pipeline.sandbox = idle
    decoders = set(children())
    second = await pipeline.again("cat.jpg")

    assert second.outcome.variants == first.outcome.variants
    assert second.outcome.original == first.outcome.original
    assert await files(pipeline, keys(second)) == before
    assert set(children()) == decoders


@on_files
async def test_a_touched_file_with_the_same_content_is_read_but_not_decoded(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    before = await files(pipeline, keys(first))
    os.utime(pipeline.uploads.path("cat.jpg"), (0, 0))
    second = await pipeline.again("cat.jpg")

    assert second.outcome.variants == first.outcome.variants
    assert "decode" in first.ms
    assert "decode" not in second.ms
    assert await files(pipeline, keys(second)) == before
    assert second.outcome.original == replace(first.outcome.original, stamp=second.outcome.original.stamp)
    assert second.outcome.original.stamp != first.outcome.original.stamp


@on_files
async def test_a_touched_file_is_not_read_a_third_time(pipeline: Pipeline) -> None:
    await pipeline.put("cat.jpg", jpeg())
    os.utime(pipeline.uploads.path("cat.jpg"), (0, 0))
    await pipeline.again("cat.jpg")
    pipeline.sandbox = Sandbox(allowance())
    decoders = set(children())
    await pipeline.again("cat.jpg")

    assert set(children()) == decoders


async def test_changed_content_gets_new_names_and_the_old_files_stay(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    second = await pipeline.put("cat.jpg", jpeg(50, 60))

    assert set(keys(first)).isdisjoint(keys(second))
    assert (await pipeline.uploads.variants()).keys() == {*keys(first), *keys(second)}


@on_both
async def test_content_that_returns_gets_its_old_names_again(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    await pipeline.put("cat.jpg", jpeg(50, 60))
    for key in keys(first):
        await pipeline.blobs.delete(key)  # as the sweeper does with what was superseded for long
    third = await pipeline.put("cat.jpg", jpeg())

    assert keys(third) == keys(first)
    assert set(keys(third)) <= (await pipeline.uploads.variants()).keys()


async def test_content_that_returns_while_its_old_files_are_there_takes_them_as_they_are(
    pipeline: Pipeline,
) -> None:
    first = await pipeline.put("cat.jpg", jpeg())
    await pipeline.put("cat.jpg", jpeg(50, 60))
    before = await files(pipeline, keys(first))
    third = await pipeline.put("cat.jpg", jpeg())

    assert third.outcome.variants == first.outcome.variants
    assert third.written == 0
    assert await files(pipeline, keys(first)) == before


async def test_a_variant_whose_file_is_missing_is_made_again_alone(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg(1000, 500))
    thumb, *others = keys(first)
    before = await files(pipeline, others)
    await pipeline.blobs.delete(thumb)
    second = await pipeline.again("cat.jpg")

    assert second.outcome.variants == first.outcome.variants
    assert (await pipeline.uploads.variants())[thumb] == first.outcome.variants[0].sha256
    assert await files(pipeline, others) == before


async def test_a_recipe_that_changed_makes_only_new_names_for_what_it_changed(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg(1000, 500))
    thumb, *others = DEFAULT.variants
    second = await pipeline.again("cat.jpg", Recipe("default", [replace(thumb, quality=50), *others]))

    assert keys(second)[0] not in keys(first)
    assert keys(second)[1:] == keys(first)[1:]


async def test_a_recipe_with_one_more_variant_leaves_the_files_of_the_others(pipeline: Pipeline) -> None:
    first = await pipeline.put("cat.jpg", jpeg(1000, 500))
    before = await files(pipeline, keys(first))
    second = await pipeline.again("cat.jpg", Recipe("default", [*DEFAULT.variants, Variant("tiny", 16)]))

    assert keys(second)[:3] == keys(first)
    assert await files(pipeline, keys(first)) == before
    assert second.outcome.variants[3].width == 16


LARGER = Variant("larger", 1000)  # the smaller ones are scaled from it, so that their pixels would differ
NARROW = Variant("large", 700)
WITHOUT_LARGE = DEFAULT.variants[:2]
RECIPES = {
    "one more variant": [*DEFAULT.variants, LARGER],
    "one more, first": [LARGER, *DEFAULT.variants],
    "one that changed": [*WITHOUT_LARGE, NARROW],
    "one less": WITHOUT_LARGE,
    "another one": [*WITHOUT_LARGE, LARGER],
}


@pytest.mark.parametrize("name", RECIPES)
@on_both
@pytest.mark.rotating(4)
async def test_whatever_becomes_of_a_recipe_no_name_ever_gets_other_bytes(
    pipeline: Pipeline, name: str
) -> None:
    recipes = [DEFAULT, Recipe("default", RECIPES[name]), DEFAULT, Recipe("default", RECIPES[name])]
    answer: dict[str, StoredVariant] = {}
    served: dict[str, str] = {}
    await pipeline.uploads.put("cat.jpg", pictures.medium(5))
    for recipe in recipes:
        await pipeline.uploads.announce("cat.jpg")
        made = (await pipeline.make("cat.jpg", recipe)).outcome.variants
        stored = await pipeline.uploads.variants()

        assert [variant.name for variant in made] == [variant.name for variant in recipe.variants]
        assert all(answer.setdefault(variant.key, variant) == variant for variant in made)
        assert all(served.setdefault(key, digest) == digest for key, digest in stored.items())
        assert all(stored[variant.key] == variant.sha256 for variant in made)


@on_both
async def test_a_superseded_variant_that_was_damaged_is_made_again_when_it_is_wanted_again(
    pipeline: Pipeline,
) -> None:
    first = await pipeline.put("cat.jpg", pictures.medium(5))
    await pipeline.again("cat.jpg", Recipe("default", WITHOUT_LARGE))
    *_, large = first.outcome.variants
    await pipeline.blobs.store([(large.key, b"damaged")])
    third = await pipeline.again("cat.jpg")

    assert third.outcome.variants == first.outcome.variants
    assert (await pipeline.uploads.variants())[large.key] == large.sha256


async def test_two_uploads_of_the_same_content_share_no_file(pipeline: Pipeline) -> None:
    cat, dog = [await pipeline.put(name, jpeg()) for name in ("cat.jpg", "dog.jpg")]

    assert set(keys(cat)).isdisjoint(keys(dog))
    assert cat.outcome.original.sha256 == dog.outcome.original.sha256


async def test_work_that_was_done_but_not_committed_is_done_again_to_the_same_bytes(
    pipeline: Pipeline,
) -> None:
    await pipeline.uploads.put("cat.jpg", jpeg())
    runs = []
    for holder in ("dies", "takes over"):
        claim = await pipeline.uploads.claim("cat.jpg", holder)
        made = await pipeline.render(claim)
        runs.append((keys(made), await pipeline.uploads.variants()))

    assert runs[0] == runs[1]
    assert len(runs[0][1]) == 3


# -- not made at all


async def test_a_missing_source_is_not_found(pipeline: Pipeline) -> None:
    await pipeline.uploads.announce("none.jpg")

    with pytest.raises(BlobNotFound, match=r"uploads/none\.jpg"):
        await pipeline.make("none.jpg")


@on_files
async def test_a_source_that_is_a_link_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    pipeline.uploads.path("").mkdir()
    pipeline.uploads.path("cat.jpg").symlink_to(tmp_path / "secret.jpg")
    await pipeline.uploads.announce("cat.jpg")

    with pytest.raises(BlobRefused):
        await pipeline.make("cat.jpg")
    assert await pipeline.uploads.variants() == {}


@pytest.mark.parametrize("then", ["", " and refuse", " and abort"])
@on_files
async def test_a_source_that_is_replaced_while_it_is_read_publishes_nothing(
    rogue_pipeline: Pipeline, then: str
) -> None:
    with pytest.raises(SourceChanged):
        await rogue_pipeline.put("cat.jpg", ordered(f"replace the source{then}"))

    assert await rogue_pipeline.uploads.variants() == {}
    assert await rogue_pipeline.catalog.poison.all("test") == []


class ReplacedMeanwhile(PoisonList):
    """What an app does while a worker asks for its content."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline.catalog.poison, "test")
        self._uploads = pipeline.uploads

    async def check(self, source: Source) -> None:
        await self._uploads.store("cat.jpg", jpeg(90, 60))
        await super().check(source)


async def test_an_original_that_is_replaced_before_it_is_fetched_has_changed(pipeline: Pipeline) -> None:
    pipeline.poison = ReplacedMeanwhile(pipeline)

    with pytest.raises(SourceChanged):
        await pipeline.put("cat.jpg", jpeg())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("another place", DecoderCrashed), ("not a jpeg", DecoderCrashed), ("abort", DecoderCrashed)],
)
@on_files
async def test_a_decoder_gone_bad_publishes_nothing(
    rogue_pipeline: Pipeline, fault: str, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        await rogue_pipeline.put("cat.jpg", ordered(fault))

    assert await rogue_pipeline.uploads.variants() == {}
    assert rogue_pipeline.uploads.staged() == []


async def test_a_decoder_that_writes_after_its_answer_changes_nothing_that_is_served(
    rogue_pipeline: Pipeline,
) -> None:
    first = await rogue_pipeline.put("cat.jpg", ordered("keep writing"))
    await rogue_pipeline.put("dog.jpg", jpeg())

    stored = await rogue_pipeline.uploads.variants()
    assert [stored[variant.key] for variant in first.outcome.variants] == [
        variant.sha256 for variant in first.outcome.variants
    ]


async def test_content_that_killed_its_decoder_costs_no_second_one(rogue_pipeline: Pipeline) -> None:
    with pytest.raises(DecoderCrashed):
        await rogue_pipeline.put("cat.jpg", ordered("abort"))
    decoders = set(children())
    with pytest.raises(PictureRefused) as refused:
        await rogue_pipeline.put("dog.jpg", ordered("abort"))

    assert refused.value.code == "decoder_crashed"
    assert set(children()) == decoders


# -- removed


async def removed(pipeline: Pipeline, name: str, *, with_original: bool) -> Claim:
    await pipeline.uploads.announce(name)
    claim = await pipeline.uploads.claim(name)
    found = await pipeline.catalog.claims.keys_of(claim.upload.id)
    await remove_upload(
        claim,
        found,
        pipeline.blobs,
        with_original=with_original,
        holds=pipeline.catalog.claims.holds,
    )
    return claim


@pytest.mark.parametrize("with_original", [True, False])
@on_both
@pytest.mark.rotating(2)
async def test_removing_takes_the_variants_and_where_asked_the_original_to_the_trash(
    pipeline: Pipeline, *, with_original: bool
) -> None:
    await pipeline.put("cat.jpg", jpeg())
    claim = await removed(pipeline, "cat.jpg", with_original=with_original)

    trash = f"trash/delete-{claim.upload.id}-{claim.token}/uploads/cat.jpg"
    assert await pipeline.uploads.variants() == {}
    assert await pipeline.uploads.is_there("cat.jpg") is not with_original
    assert await is_there(pipeline.blobs, trash) is with_original


async def test_a_worker_that_has_lost_its_claim_removes_nothing_that_was_made_again(
    pipeline: Pipeline,
) -> None:
    await pipeline.put("cat.jpg", jpeg())
    await pipeline.uploads.announce("cat.jpg")
    frozen = await pipeline.uploads.claim("cat.jpg")
    keys = await pipeline.catalog.claims.keys_of(frozen.upload.id)
    await pipeline.uploads.claim("cat.jpg")
    before = await pipeline.uploads.variants()

    await remove_upload(frozen, keys, pipeline.blobs, with_original=True, holds=pipeline.catalog.claims.holds)

    assert await pipeline.uploads.variants() == before
    assert await pipeline.uploads.is_there("cat.jpg")


async def test_removing_twice_is_removing_once(pipeline: Pipeline) -> None:
    await pipeline.put("cat.jpg", jpeg())
    for _ in range(2):
        await removed(pipeline, "cat.jpg", with_original=True)

    assert await pipeline.uploads.variants() == {}


@on_both
async def test_removing_a_source_that_was_used_again_keeps_both_originals_in_the_trash(
    pipeline: Pipeline,
) -> None:
    contents = [jpeg(64, 48), jpeg(48, 64)]
    for content in contents:
        await pipeline.put("cat.jpg", content)
        await removed(pipeline, "cat.jpg", with_original=True)

    kept = [await pipeline.blobs.get(key) for key in await listed(pipeline.blobs, "trash")]
    assert sorted(kept) == sorted(contents)


@on_files
async def test_removing_an_upload_whose_source_is_a_folder_leaves_the_folder(pipeline: Pipeline) -> None:
    await pipeline.put("folder/cat.jpg", jpeg())
    await removed(pipeline, "folder", with_original=True)

    assert pipeline.uploads.path("folder/cat.jpg").exists()
