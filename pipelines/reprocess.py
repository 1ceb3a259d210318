"""Reprocessing: which uploads are to be done again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.recipe import Recipes
from pipelines.sweep.findings import stat_all
from pipelines.upload import key_of
from storage.blobs import Existence, Stat
from storage.catalog.backfill import Filter
from storage.catalog.records import Upload


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
        selection = repr((*names, self.stale, self.missing, recipes if self.stale else ""))
        return f"reprocess-{hashlib.sha256(selection.encode()).hexdigest()[:16]}"

    async def among(self, uploads: Sequence[Upload], recipes: Recipes, blobs: Stat) -> Sequence[Upload]:
        """Those of `uploads`, found by the filter, that are stale or lack a file, if that is asked for.

        Raises: StorageError.
        """
        if self.stale:
            uploads = [upload for upload in uploads if _is_stale(upload, recipes)]
        if not self.missing:
            return uploads
        found = await stat_all([one.key for upload in uploads for one in upload.variants], blobs)
        return [
            upload
            for upload in uploads
            if any(found[one.key] is Existence.MISSING for one in upload.variants)
        ]


def _is_stale(upload: Upload, recipes: Recipes) -> bool:
    """Whether the upload's variants were made by an older version of its recipe."""
    recipe = recipes.get(upload.recipe)
    if recipe is None or upload.original is None:
        return False
    current = {key_of(upload.id, recipe, variant, upload.original.sha256) for variant in recipe.variants}
    return current != {variant.key for variant in upload.variants}
