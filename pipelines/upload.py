"""One upload: read it, decode it once, publish what is missing. It raises where it cannot."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from pipelines.digests import content_sha256
from pipelines.errors import DecoderCrashed, DecodeTimeout, PictureRefused, SourceChanged
from pipelines.metrics import Reuse
from pipelines.poison import Deadly, PoisonList
from pipelines.recipe import Recipe, Variant
from pipelines.sandbox import Rendered, RenderedVariant, Sandbox
from storage.blobs import Delete, Existence, Move, Open, Source, Stat, Store
from storage.catalog.records import Claim, Original, Ready, Removed, StoredVariant
from storage.catalog.requeuer import DAMAGED
from storage.errors import BlobChanged, BlobNotFound, BlobPinned, BlobRefused, BlobsUnavailable, KeyRefused
from storage.keys import deletion_folder, trash_key, variant_key
from storage.threads import in_thread

_CHANGED = "the original was replaced or changed while it was being read"
_BEGIN = 16  # bytes, enough to recognise every format

Milliseconds = Mapping[str, float]


class PictureBlobs(Open, Store, Stat, Protocol):
    """The verbs of a storage that making variants uses; none destroys anything."""


class DoomedBlobs(Delete, Move, Stat, Protocol):
    """The verbs of a storage that removing an upload uses."""


@dataclass(frozen=True)
class Made:
    """The outcome of a successful upload, and what each stage of it took."""

    outcome: Ready
    ms: Milliseconds
    reused: Reuse | None = None  # why the picture was not decoded
    written: int = 0  # bytes of the variants that were stored

    @property
    def is_decoded(self) -> bool:
        """Whether the picture was decoded."""
        return self.reused is None


async def make_variants(
    claim: Claim, recipe: Recipe, blobs: PictureBlobs, sandbox: Sandbox, poison: PoisonList
) -> Made:
    """Make every variant of `recipe` for the claimed upload, published under its name.

    What is there already is not made again: neither when the file has not changed since it was last
    ready, nor when only its name, times or place have.

    Raises: PipelineError, StorageError.
    """
    began = time.perf_counter()
    upload = claim.upload
    async with blobs.open(upload.source or "", fetched=False) as source:
        stored = await _stored_whole(claim, recipe, blobs)
        if stored and upload.original and upload.original.stamp == source.stamp:
            return Made(
                Ready(claim, upload.original, stored, source.info), _clocked({}, began), reused="unchanged"
            )
        known = upload.original if stored else None
        await poison.check(source)
        try:
            rendered = await sandbox.render(
                source.fd,
                source.bytes,
                recipe.variants,
                known.sha256 if known else None,
                fetch=source.fetch,
                release=source.release,
            )
        except BlobChanged as error:
            raise SourceChanged(_CHANGED) from error
        except (PictureRefused, DecodeTimeout, DecoderCrashed) as error:
            # Half of one file and half of the next may be refused, or kill; the file that is there did not.
            await _check_unchanged(upload.source or "", source, blobs)
            if isinstance(error, Deadly):
                await poison.add(source, error)
            elif isinstance(error, PictureRefused) and await _may_be_unfinished(error, source):
                raise PictureRefused(error.code, str(error), source.info) from error
            raise
        rendered_at = time.perf_counter()
        await _check_unchanged(upload.source or "", source, blobs)
        if rendered is None and known is not None:
            same = replace(known, stamp=source.stamp)
            return Made(Ready(claim, same, stored, source.info), _clocked({}, began), reused="known_content")
        if rendered is None:
            raise DecoderCrashed("the decoder took new content for known content")
        made, missing = await _split_stored(claim, recipe, rendered, blobs)
        await blobs.store(missing)
        original = Original(
            stamp=source.stamp,
            sha256=rendered.sha256,
            bytes=source.bytes,
            format=rendered.format,
            width=rendered.width,
            height=rendered.height,
            color=rendered.color,
        )
        publish_ms = (time.perf_counter() - rendered_at) * 1000
        ms = _clocked({**rendered.ms, "publish": publish_ms}, began)
        written = sum(len(content) for _, content in missing)
        return Made(Ready(claim, original, made, source.info), ms, written=written)


async def remove_upload(
    claim: Claim,
    keys: Sequence[str],
    blobs: DoomedBlobs,
    *,
    with_original: bool,
    holds: Callable[[Claim], Awaitable[bool]],
    forbidden: str | None = None,
) -> Removed:
    """Remove the blobs under `keys`, and move the original to the trash if it goes too.

    `forbidden` is why it may not go: the outcome says that it was kept. `holds` is asked before each: a
    worker that was frozen must not remove what has been made again since.

    Raises: StorageError; the same call again does the rest.
    """
    for key in keys:
        if not await holds(claim):
            return Removed(claim)  # and its outcome is not written
        await blobs.delete(key)
    source = claim.upload.source
    if not with_original or source is None or not await holds(claim):
        return Removed(claim)
    if forbidden is not None:
        is_there = (await blobs.stat([source]))[source] is not Existence.MISSING
        return Removed(claim, kept=forbidden if is_there else None)
    folder = deletion_folder(claim.upload.id, claim.token)
    try:
        await blobs.move(source, trash_key(folder, source))
    # What is no regular file was never this upload's; and a bucket has no room for a key that is too long.
    except (BlobRefused, BlobPinned, KeyRefused) as error:
        return Removed(claim, kept=str(error))
    return Removed(claim)


async def _stored_whole(claim: Claim, recipe: Recipe, blobs: Stat) -> Sequence[StoredVariant]:
    """The stored variants, if they are all of `recipe` and every file is there; otherwise nothing."""
    original = claim.upload.original
    if original is None:
        return []
    by_key = {variant.key: variant for variant in claim.upload.variants}
    keys = [key_of(claim.upload.id, recipe, variant, original.sha256) for variant in recipe.variants]
    are_whole = all(key in by_key for key in keys) and await _are_there(keys, blobs)
    return [by_key[key] for key in keys] if are_whole else []


async def _split_stored(
    claim: Claim, recipe: Recipe, rendered: Rendered, blobs: PictureBlobs
) -> tuple[Sequence[StoredVariant], Sequence[tuple[str, bytes]]]:
    """All variants, and the content of those that are to be stored.

    What is stored under a name stays, although another version of a library might make other bytes of it.
    """
    made: list[StoredVariant] = []
    missing: list[tuple[str, bytes]] = []
    for variant, output in zip(recipe.variants, rendered.variants, strict=True):
        fresh = _stored(claim.upload.id, recipe, variant, rendered.sha256, output)
        stored = await _stored_before(fresh.key, claim, blobs)
        made.append(stored or fresh)
        if stored is None:
            missing.append((fresh.key, output.content))
    return made, missing


async def _stored_before(key: str, claim: Claim, blobs: PictureBlobs) -> StoredVariant | None:
    """The variant that is stored under that key, if it really is."""
    for known in claim.upload.variants:
        if known.key == key:
            return known if known.sha256 != DAMAGED and await _are_there([key], blobs) else None
    for known in claim.superseded:
        if known.key == key:
            # No sweep repairs a superseded one that is damaged, so it is verified before it is current again.
            return known if await _is_whole(known, blobs) else None
    return None


async def _is_whole(variant: StoredVariant, blobs: Open) -> bool:
    try:
        async with blobs.open(variant.key) as file:
            return await in_thread(content_sha256, file.fd) == variant.sha256
    except (BlobNotFound, BlobRefused):
        return False


async def _are_there(keys: Sequence[str], blobs: Stat) -> bool:
    found = await blobs.stat(keys)
    for key, seen in found.items():
        if seen is Existence.UNKNOWN:
            raise BlobsUnavailable(f"the storage did not say whether {key} is there")
    return Existence.MISSING not in found.values()


async def _may_be_unfinished(error: PictureRefused, source: Source) -> bool:
    """Whether the file is one as it lies there while somebody writes it: damaged, empty, or not begun."""
    if error.code != "unsupported_format":
        return error.code == "corrupt_image"
    await source.fetch()
    begin = os.pread(source.fd, _BEGIN, 0)
    return len(begin) < _BEGIN or not any(begin)


async def _check_unchanged(key: str, source: Source, blobs: Open) -> None:
    try:
        async with blobs.open(key, fetched=False) as now:
            if now.stamp == source.stamp:
                return
    except BlobNotFound:
        pass
    raise SourceChanged(_CHANGED)


def _stored(
    upload_id: UUID, recipe: Recipe, variant: Variant, sha256: str, made: RenderedVariant
) -> StoredVariant:
    key = key_of(upload_id, recipe, variant, sha256)
    return StoredVariant(variant.name, key, made.width, made.height, len(made.content), made.sha256)


def key_of(upload_id: UUID, recipe: Recipe, variant: Variant, content_sha256: str) -> str:
    """Where that variant of a recipe lives, for that upload and content."""
    return variant_key(recipe.uuid(variant, upload_id, content_sha256), variant.format)


def _clocked(ms: Milliseconds, began: float) -> Milliseconds:
    return {**ms, "upload": (time.perf_counter() - began) * 1000}
