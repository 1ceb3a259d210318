"""Which variants live uploads have that their recipe makes no more: asked of either database."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from sqlalchemy import update

from pipelines.dropped_variants import DroppedVariant, find_dropped
from pipelines.recipe import Recipe, Variant
from storage.catalog import variant_names
from storage.catalog.opening import Catalog
from storage.catalog.records import StreamId, UploadRequested
from storage.catalog.tables import uploads
from tests.support.catalogs import ON_BOTH, claim, commit, delete_event, ready, take, work

pytestmark = ON_BOTH


def book(**recipes: str) -> Mapping[str, Recipe]:
    """Recipes with variants of those names."""
    made = {name: [Variant(one, 100) for one in names.split()] for name, names in recipes.items()}
    return {name: Recipe(name, variants) for name, variants in made.items()}


class Library:
    """A catalog with uploads of several recipes."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._count = 0

    async def add(self, recipe: str, names: str, uploads: int = 1) -> list[UUID]:
        return [await self.made(UUID(int=self._next()), recipe, names) for _ in range(uploads)]

    async def made(self, upload_id: UUID, recipe: str, names: str) -> UUID:
        event = UploadRequested(StreamId(self._next()), upload_id, f"uploads/{upload_id}.jpg", recipe)
        await take(self.catalog, event)
        await commit(self.catalog, ready(await claim(self.catalog, upload_id), names=tuple(names.split())))
        return upload_id

    def _next(self) -> int:
        self._count += 1
        return self._count

    async def dropped(self, **recipes: str) -> list[DroppedVariant]:
        return list(await find_dropped(book(**recipes), self.catalog.variant_names))


@pytest.fixture
def library(catalog: Catalog) -> Library:
    return Library(catalog)


async def test_of_an_empty_catalog_nothing_is_dropped(library: Library) -> None:
    assert await library.dropped(default="thumb") == []


async def test_a_variant_that_its_recipe_makes_no_more_is_told_with_all_that_have_it(
    library: Library,
) -> None:
    await library.add("default", "thumb large", 3)
    await library.add("avatar", "small")

    assert await library.dropped(default="thumb", avatar="small") == [
        DroppedVariant("default", "large", 3, is_all=True)
    ]
    assert await library.dropped(default="thumb large more", avatar="small") == []


async def test_a_name_that_another_recipe_has_is_told_with_as_many_as_were_seen(library: Library) -> None:
    await library.add("default", "thumb")
    await library.add("avatar", "thumb small", 2)

    assert await library.dropped(default="thumb", avatar="small") == [
        DroppedVariant("avatar", "thumb", 2, is_all=False)
    ]


async def test_a_recipe_that_is_gone_is_told_with_what_it_made(library: Library) -> None:
    await library.add("default", "thumb")
    await library.add("avatar", "small", 2)

    assert await library.dropped(default="thumb") == [DroppedVariant("avatar", "small", 2, is_all=True)]


async def test_a_recipe_that_is_gone_is_told_although_others_make_variants_of_its_names(
    library: Library,
) -> None:
    await library.add("banner", "thumb")
    await library.add("avatar", "thumb", 2)
    await library.add("cover", "thumb")

    assert await library.dropped(default="thumb", banner="thumb") == [
        DroppedVariant("avatar", "thumb", 2, is_all=False),
        DroppedVariant("cover", "thumb", 1, is_all=False),
    ]


async def test_a_name_of_two_recipes_that_are_gone_is_told_of_each_with_as_many_as_were_seen(
    library: Library,
) -> None:
    await library.add("avatar", "small", 2)
    await library.add("cover", "small")

    assert await library.dropped(default="thumb") == [
        DroppedVariant("avatar", "small", 2, is_all=False),
        DroppedVariant("cover", "small", 1, is_all=False),
    ]


async def test_a_variant_that_only_uploads_beyond_the_looked_at_have_is_told_without_a_recipe(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_names, "SAMPLE", 1)
    for names in ("thumb", "thumb wide", "thumb"):
        await library.add("default", names)

    assert await library.dropped(default="thumb") == [DroppedVariant(None, "wide", 1, is_all=True)]


async def test_what_was_made_again_without_it_or_deleted_has_it_no_more(library: Library) -> None:
    again, deleted = await library.add("default", "thumb large", 2)
    await library.made(again, "default", "thumb")
    await take(library.catalog, delete_event(100, deleted))
    await work(library.catalog, deleted)

    assert await library.dropped(default="thumb") == []


@pytest.mark.parametrize("recipe", ["default", "avatar"])
async def test_some_uploads_are_looked_at_the_newest_and_the_oldest(
    library: Library, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_names, "SAMPLE", 2)
    for names in ("oldest", "oldest thumb", "between", "between", "newest", "newest"):
        await library.add(recipe, names)
    seen = await library.catalog.variant_names.sampled(recipe, ["oldest", "between", "newest"])

    assert seen == {"oldest": 2, "newest": 2}


@pytest.mark.parametrize("recipe", ["default", "avatar"])
async def test_uploads_of_other_recipes_or_that_are_not_ready_take_no_place_among_them(
    library: Library, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_names, "SAMPLE", 1)
    await library.add("banner", "thumb")
    [queued] = await library.add(recipe, "queued")
    await library.add(recipe, "oldest")
    await library.add(recipe, "newest")
    await library.add("banner", "thumb")
    async with library.catalog.database.writing() as connection:
        await connection.execute(update(uploads).where(uploads.c.id == str(queued)).values(state="queued"))
    seen = await library.catalog.variant_names.sampled(recipe, ["thumb", "queued", "oldest", "newest"])

    assert seen == {"oldest": 1, "newest": 1}


async def test_a_look_ends_where_very_many_others_lie_before_the_uploads_of_a_recipe(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_names, "REACH", 2)
    for recipe, names in (("avatar", "a"), ("avatar", "b"), ("default", "c"), ("default", "d")):
        await library.add(recipe, names)
    await library.add("default", "e")

    assert await library.catalog.variant_names.sampled("default", list("abcde")) == {"d": 1, "e": 1}


async def test_recipes_that_uploads_name_are_found_but_for_default_and_the_known_ones(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_names, "MOST_RECIPES", 2)
    for recipe in ("default", "avatar", "banner", "cover", "avatar", "zoom"):
        await library.add(recipe, "thumb")

    assert await library.catalog.variant_names.recipes(without=["default", "banner"]) == ["avatar", "cover"]


async def test_where_no_upload_names_a_recipe_there_is_none(library: Library) -> None:
    await library.add("default", "thumb")

    assert await library.catalog.variant_names.recipes(without=[]) == []
