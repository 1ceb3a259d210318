"""The recipes, as `media doctor` finds them, beside what uploads have."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from pipelines.dropped_variants import DroppedVariant, find_dropped
from storage.catalog.opening import open_catalog
from storage.errors import StorageError
from worker.findings import Finding, inspect_recipes
from worker.settings import Settings

_ANSWER_S = 5.0  # of the catalog, which has told before whether it is away


async def check_recipes(settings: Settings) -> Finding:
    """Whether recipes still make what the uploads of the catalog have, where that can be read."""
    dropped: Sequence[DroppedVariant] = ()
    with suppress(StorageError, OSError, TimeoutError):  # which the check of the catalog tells
        async with asyncio.timeout(_ANSWER_S), open_catalog(settings.catalog, create=False) as catalog:
            dropped = await find_dropped(settings.recipe_book, catalog.variant_names)
    return inspect_recipes(settings, dropped)
