"""What an upload may be, for the forms of apps: one document, over HTTP and on Redis."""

import asyncio
from importlib.metadata import version
from typing import Any

import orjson
import structlog

from pipelines.recipe import Variant
from worker.queue import Queue, QueueUnavailable
from worker.settings import Settings

log = structlog.get_logger(__name__)

HEADERS = ("Idempotency-Key", "Repr-Digest", "Media-Recipe", "Media-Metadata", "Prefer")
"""Of an upload over HTTP, all of them optional."""
OF_A_VARIANT = (
    *("name", "box", "fit", "format", "quality", "background"),
    *("progressive", "subsampling", "crop", "effort"),
)
_AGAIN_S = 60.0  # a Redis that has lost its data has them again then


def limits_document(settings: Settings) -> dict[str, Any]:
    """Bytes, pixels and formats that are accepted, recipes with what they make, and headers."""
    return {
        "version": version("media-worker"),
        "max_bytes": settings.max_source_bytes,
        "max_pixels": settings.max_pixels,
        "formats": list(settings.formats),
        "recipes": [
            {
                "name": recipe.name,
                "placeholder": recipe.placeholder,
                "variants": [variant_limits(variant) for variant in recipe.variants],
            }
            for recipe in settings.recipe_book.values()
        ],
        "headers": list(HEADERS),
    }


def variant_limits(variant: Variant) -> dict[str, Any]:
    """A picture that a recipe makes."""
    told = {name: getattr(variant, name) for name in OF_A_VARIANT}
    crop = variant.crop if variant.fit == "cover" else None
    return {**told, "background": f"#{bytes(variant.background).hex()}", "crop": crop}


class LimitsPublisher:
    """Keeps the limits of these settings on Redis, for apps."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self._limits = orjson.dumps(limits_document(settings))
        self._queue = queue
        self._reported: dict[str, str] = {}

    async def run(self) -> None:
        """Write them now, and again from time to time, until cancelled."""
        while True:
            await self.publish()
            await asyncio.sleep(_AGAIN_S)

    async def publish(self) -> None:
        """Write them, if the stream is still ours.

        A worker does its work without; to which keys it could not write them, and why, is logged once.
        """
        reasons: dict[str, str] = {}
        for key in self._queue.limits.keys:  # each by itself, as a right may be missing for some of them
            try:
                await self._queue.limits.publish(key, self._limits, self._queue.ownership)
            except QueueUnavailable as error:
                reasons[key] = error.explain()
        if reasons and reasons != self._reported:
            log.warning("limits_not_published", keys=list(reasons), reason=next(iter(reasons.values())))
        self._reported = reasons
