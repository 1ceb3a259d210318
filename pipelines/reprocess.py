"""Reprocessing: which uploads are to be done again, and which are left alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pipelines.missing_placeholders import awaits_placeholder, has_unwanted_placeholder
from pipelines.recipe import Recipes
from pipelines.sweep.findings import stat_all
from pipelines.upload import key_of
from storage.blobs import BlobInfo, Existence, Stat
from storage.catalog.backfill import Filter
from storage.catalog.opening import Catalog
from storage.catalog.records import State, Upload
from storage.catalog.sources import Sources

_PAGE = 200
_OF_THE_STORAGE = {Existence.MISSING: "it is gone", Existence.UNKNOWN: "it cannot be read"}


@dataclass(frozen=True)
class Selected:
    """Uploads that are to be done again, and how many variants of theirs have no file.

    `differing` says by original why its ready uploads are left alone: nothing could be made of it, and they
    would fail.
    """

    uploads: Sequence[Upload]
    missing: int = 0
    differing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Which uploads are to be done again: those that `filter` finds, since when in the user's own words."""

    filter: Filter
    since: str | None
    stale: bool
    missing: bool

    def checkpoint(self, recipes: Recipes) -> str:
        """The name of its checkpoint; the recipes count where they decide what is stale."""
        names = self.filter.state, self.filter.recipe, self.filter.code, self.since
        ids = sorted(str(one) for one in self.filter.ids or ())
        selection = repr((*names, self.stale, self.missing, recipes if self.stale else "", *ids))
        return f"reprocess-{hashlib.sha256(selection.encode()).hexdigest()[:16]}"

    async def among(
        self, uploads: Sequence[Upload], recipes: Recipes | None, blobs: Stat, sources: Sources
    ) -> Selected:
        """Those of `uploads`, found by the filter, that are stale or lack a file, if that is asked for.

        Ready ones are left alone where the original is gone, or of another size, or the recipe is gone.
        Without `recipes` nothing is known of the latter, nor of what is stale.

        Raises: StorageError.
        """
        missing: Mapping[UUID, int] = {}
        if self.stale:
            uploads = [upload for upload in uploads if _is_stale(upload, recipes or {})]
        if self.missing:
            missing = await _count_missing_files(uploads, blobs)
            uploads = [upload for upload in uploads if missing[upload.id]]
        differing: Mapping[str, str] = {}
        if (self.stale or self.missing) and self.filter.state is State.READY:
            sizes = {one.source: one.original.bytes for one in uploads if one.source and one.original}
            differing = await _find_differing(sizes, blobs, sources)
            differing = {**_of_gone_recipes(uploads, recipes), **differing}
        chosen = [upload for upload in uploads if upload.source not in differing]
        return Selected(chosen, sum(missing.get(upload.id, 0) for upload in chosen), differing)


async def count_missing(catalog: Catalog, blobs: Stat) -> tuple[int, int]:
    """How many uploads `media reprocess --missing` would queue, and how many files they lack.

    Raises: StorageError.
    """
    selection = Selection(Filter(), None, stale=False, missing=True)
    uploads = files = 0
    after = ""
    while page := await catalog.backfill.page(selection.filter, after, _PAGE):
        selected = await selection.among(page, None, blobs, catalog.sources)
        uploads, files = uploads + len(selected.uploads), files + selected.missing
        after = str(page[-1].id)
    return uploads, files


async def _count_missing_files(uploads: Sequence[Upload], blobs: Stat) -> Mapping[UUID, int]:
    """How many variants of each upload have no file."""
    found = await stat_all([one.key for upload in uploads for one in upload.variants], blobs)
    return {
        upload.id: sum(found[one.key] is Existence.MISSING for one in upload.variants) for upload in uploads
    }


async def find_unmakable(ids: Sequence[UUID], catalog: Catalog, blobs: Stat) -> Mapping[UUID, str]:
    """Which of these ready uploads would fail if they were made again, and what their originals are like.

    Raises: StorageError.
    """
    made_of = await catalog.sources.made_of(ids)
    differing = await _find_differing(dict(made_of.values()), blobs, catalog.sources)
    return {upload_id: differing[key] for upload_id, (key, _) in made_of.items() if key in differing}


async def _find_differing(sizes: Mapping[str, int], blobs: Stat, sources: Sources) -> Mapping[str, str]:
    """Which originals of ready uploads are gone, or of a size that none of them was made of, and how so.

    `sizes` says by original of how many bytes one of its uploads was made.
    """
    seen = await stat_all(list(sizes), blobs)
    suspects = {
        key: info for key, info in seen.items() if not isinstance(info, BlobInfo) or info.bytes != sizes[key]
    }
    expected = await sources.expected(suspects) if suspects else {}
    differing: dict[str, str] = {}
    for key, info in suspects.items():
        if not isinstance(info, BlobInfo):
            differing[key] = _OF_THE_STORAGE[info]
        elif key not in expected or not expected[key].fits(info.bytes):
            wanted = expected[key].size if key in expected else sizes[key]
            differing[key] = f"it has {info.bytes} bytes, and its ready upload has {wanted}"
    return differing


def _of_gone_recipes(uploads: Sequence[Upload], recipes: Recipes | None) -> Mapping[str, str]:
    return {
        upload.source: f"its recipe {upload.recipe} is gone"
        for upload in uploads
        if recipes is not None and upload.source and upload.recipe not in recipes
    }


def _is_stale(upload: Upload, recipes: Recipes) -> bool:
    """Whether an older version of its recipe has made the upload's variants or its placeholder.

    A placeholder that this version could not make is not made again, unless the upload is for another reason.
    """
    recipe = recipes.get(upload.recipe)
    if recipe is None or upload.original is None:
        return False
    current = {key_of(upload.id, variant, upload.original.sha256) for variant in recipe.variants}
    is_current = current == {variant.key for variant in upload.variants}
    return (
        not is_current
        or awaits_placeholder(upload.original, recipe)
        or has_unwanted_placeholder(upload.original, recipe)
    )
