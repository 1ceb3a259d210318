"""The poison list: contents that killed their decoder, which are refused without costing another one."""

import time
from collections.abc import Iterable
from contextlib import suppress

from pipelines.digests import content_sha256
from pipelines.errors import DecoderBloated, DecoderCrashed, DecodeTimeout, PictureRefused
from pipelines.metrics import NO_METRICS, Metrics
from storage.blobs import Open, Source
from storage.catalog.poison import Poison, PoisonContent
from storage.errors import BlobNotFound, CatalogDamaged
from storage.threads import in_thread

POISON_KEPT_MS = 7 * 24 * 3600 * 1000
_REFRESH_S = 15.0  # how late one worker may read what another added

Deadly = DecodeTimeout | DecoderBloated | DecoderCrashed
"""The errors of a picture that ended its decoder."""
DEADLY_CODES = frozenset({DecodeTimeout.code, DecoderBloated.code, DecoderCrashed.code})


class PoisonList:
    def __init__(self, contents: Poison, version: str, metrics: Metrics = NO_METRICS) -> None:
        self._poison = contents
        self._metrics = metrics
        self._version = version
        self._known: dict[str, PoisonContent] = {}
        self._sizes: frozenset[int] = frozenset()
        self._read_at = float("-inf")

    async def check(self, source: Source) -> None:
        """Refuse content that is known to kill. Raises: PictureRefused, CatalogUnavailable.

        Only content of a size that a known killer has is hashed for it.
        """
        if time.monotonic() - self._read_at > _REFRESH_S:
            await self._read()
        if source.bytes not in self._sizes:
            return
        digest = await _sha256(source)
        if digest in self._known:
            await self._read()  # somebody may have removed it since
        content = self._known.get(digest)
        if content is not None:
            self._metrics.reused("verdict")
            raise PictureRefused(content.code, content.message)

    async def add(self, source: Source, error: Deadly) -> None:
        """Add the content of `source`, with the `error` that it caused. Raises: CatalogUnavailable."""
        content = PoisonContent(
            sha256=await _sha256(source),
            bytes=source.bytes,
            version=self._version,
            code=error.code,
            message=str(error),
        )
        with suppress(CatalogDamaged):
            await self._poison.add(content)
        await self._read()

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            contents = await self._poison.all(self._version)
        except CatalogDamaged:
            contents = []  # a known killer costs another decoder: that is better than no picture at all
        self._known = {content.sha256: content for content in contents}
        self._sizes = frozenset(content.bytes for content in self._known.values())
        self._read_at = began  # only now: a check meanwhile must not take what is not read yet for known


async def _sha256(source: Source) -> str:
    await source.fetch()
    digest = await in_thread(content_sha256, source.fd)
    source.release()
    return digest


async def remove_poison(sources: Iterable[str], blobs: Open, poison: Poison) -> None:
    """Remove the contents of `sources` from the list. Raises: StorageError."""
    contents = []
    for key in sources:
        with suppress(BlobNotFound):
            async with blobs.open(key) as source:
                contents.append(await in_thread(content_sha256, source.fd))
    await poison.remove(contents)
