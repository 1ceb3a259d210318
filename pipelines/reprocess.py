"""Reprocessing: which uploads are worth doing again, found page by page."""

from collections.abc import Sequence

from pipelines.recipe import Recipes
from pipelines.upload import key_of
from storage.blobs import Existence, Stat
from storage.catalog.records import Upload


def is_stale(upload: Upload, recipes: Recipes) -> bool:
    """Whether the upload's variants were made by an older version of its recipe."""
    recipe = recipes.get(upload.recipe)
    if recipe is None or upload.original is None:
        return False
    wanted = {key_of(upload.id, variant, upload.original.sha256) for variant in recipe.variants}
    return wanted != {variant.key for variant in upload.variants}


async def with_missing_files(uploads: Sequence[Upload], blobs: Stat) -> Sequence[Upload]:
    """Those of `uploads` that have a variant whose file is surely not there."""
    found = await blobs.stat([variant.key for upload in uploads for variant in upload.variants])
    missing = {key for key, seen in found.items() if seen is Existence.MISSING}
    return [upload for upload in uploads if any(variant.key in missing for variant in upload.variants)]
