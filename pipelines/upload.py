"""One upload: read it, decode it once, publish what is missing. It raises where it cannot."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from pipelines.accounts import Meter
from pipelines.digests import content_sha256
from pipelines.errors import (
    DecoderCrashed,
    DecoderFailed,
    DecoderKilled,
    DecoderStarved,
    DecodeTimeout,
    PictureRefused,
    SourceChanged,
    WorkerKiller,
)
from pipelines.metrics import Reuse
from pipelines.missing_placeholders import attempt_at, lacks_placeholder, without_unwanted_placeholder
from pipelines.poison import Deadly, PoisonList
from pipelines.recipe import Recipe, Variant
from pipelines.sandbox import Rendered, RenderedVariant, Sandbox
from pipelines.sandbox.rooms import ENDLESS, Patience
from storage.blobs import BlobInfo, Delete, Existence, Move, Open, Source, Stamp, Stat, Store
from storage.catalog.records import Claim, Original, OriginalFate, Ready, Removed, StoredVariant
from storage.catalog.requeuer import DAMAGED
from storage.errors import (
    BlobChanged,
    BlobNotFound,
    BlobPinned,
    BlobRefused,
    BlobsUnavailable,
    KeyRefused,
    StorageError,
)
from storage.keys import deletion_folder, trash_key, variant_key
from storage.threads import in_thread

_CHANGED = "the original was replaced or changed while it was being read"
WORKERS_DIED = "Every worker that took this upload died with it, the last one working alone."
_OF_THE_MACHINE = (DecoderKilled, DecoderStarved)  # which may let another try succeed
_UNRENDERED = (
    *(PictureRefused, DecodeTimeout, DecoderCrashed, DecoderFailed, WorkerKiller),
    *_OF_THE_MACHINE,
)
_LONG_S = 0.5  # the shortest lease: no worker is taken for frozen before
_BEGIN = 16  # bytes, enough to recognise every format

Milliseconds = Mapping[str, float]
Kept = Mapping[str, StoredVariant]
"""Stored variants by name."""


class PictureBlobs(Open, Stamp, Store, Stat, Protocol):
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
    undecoded: Exception | None = None  # why it could not be decoded, where what is stored was enough

    @property
    def is_decoded(self) -> bool:
        """Whether the picture was decoded."""
        return self.reused is None


async def make_variants(
    claim: Claim,
    recipe: Recipe,
    blobs: PictureBlobs,
    sandbox: Sandbox,
    poison: PoisonList,
    holds: Callable[[Claim], Awaitable[bool]],
    *,
    may_decode: bool = True,
    meter: Meter | None = None,
    patience: Patience = ENDLESS,
    more_wait: Callable[[], bool] = lambda: False,
) -> Made:
    """Make the variants of `recipe` that the claimed upload lacks, published under their names.

    What is stored under a name stays as it is. Nothing is decoded where nothing is missing, nor the
    placeholder: neither when the file has not changed since it was last ready, nor when only its name, times
    or place have. Where only the placeholder is missing and cannot be made, what is stored is the outcome.
    Unless it `may_decode`, what is to be decoded is a WorkerKiller.
    `holds` is asked after a long time: a worker that was frozen must not replace what has been made since.
    `meter` counts what it takes. It waits for its room with `patience`; and a large one, while more of its
    owner's wait for theirs, or if `more_wait` to be claimed, for others that are stored with it.

    Raises: PipelineError, StorageError, NotBegunError.
    """
    began = claimed_at = time.perf_counter()
    upload, owner = claim.upload, meter.owner if meter else ""
    known = upload.original and without_unwanted_placeholder(upload.original, recipe)
    async with (
        blobs.open(upload.source or "", fetched=False) as source,
        AsyncExitStack() as held,
    ):
        waited_from = time.perf_counter()
        room = sandbox.rooms.room(source.bytes, owner, patience)
        await held.enter_async_context(room)
        began += time.perf_counter() - waited_from  # that was no work
        kept = await _find_stored(claim, recipe, known.sha256, blobs) if known else {}
        missing = [variant for variant in recipe.variants if variant.name not in kept]
        unchanged = None
        if known and not missing and known.stamp == source.stamp:
            ready = Ready(claim, known, _in_order(recipe, kept), source.info)
            unchanged = Made(ready, _clocked({}, began), reused="unchanged")
        lacking = missing
        if known and not missing and lacks_placeholder(known, recipe):
            lacking = [min(recipe.variants, key=lambda variant: variant.box)]  # which is made with it
        if unchanged and not lacking:
            return unchanged
        try:
            if not may_decode:
                raise WorkerKiller(WORKERS_DIED)
            await poison.check(source)
            rendered = await sandbox.render(
                source.fd,
                source.bytes,
                recipe.variants,
                known.sha256 if known else None,
                missing=lacking,
                placeholder=recipe.placeholder,
                fetch=source.fetch,
                release=source.release,
                meter=meter,
            )
        except BlobChanged as error:
            raise SourceChanged(_CHANGED) from error
        except _UNRENDERED as error:
            # Half of one file and half of the next may be refused, or kill; the file that is there did not.
            await _check_unchanged(upload.source or "", source, blobs)
            if isinstance(error, Deadly):
                await poison.add(source, error)
            if known and not missing and (unchanged or await _has_content(source, known.sha256)):
                # A decoder of before has made all that is served, but for the placeholder.
                same = replace(known, stamp=source.stamp)
                if lacking and not isinstance(error, _OF_THE_MACHINE):
                    same = replace(same, placeholder_tried=attempt_at(recipe.placeholder))
                whole = Ready(claim, same, _in_order(recipe, kept), source.info)
                reused: Reuse = "unchanged" if unchanged else "known_content"
                return Made(whole, _clocked({}, began), reused, undecoded=error)
            if isinstance(error, PictureRefused) and await _may_be_unfinished(error, source):
                error.seen = source.info
            raise
        waits: Milliseconds = {}
        if rendered is not None:
            variant_bytes = sum(len(one.content) for one in rendered.variants)
            held.enter_context(sandbox.rooms.unstored(variant_bytes))
            waited_s = await sandbox.rooms.await_others(
                source.bytes, variant_bytes, owner, patience, more_wait=more_wait()
            )
            began += waited_s  # nor was that
            waits = {"wait": waited_s * 1000} if waited_s else {}
        rendered_at = time.perf_counter()
        await _check_unchanged(upload.source or "", source, blobs)
        if rendered is None and known is not None:
            same = replace(known, stamp=source.stamp)
            stored = _in_order(recipe, kept)
            return Made(Ready(claim, same, stored, source.info), _clocked({}, began), reused="known_content")
        if rendered is None:
            raise DecoderCrashed("the decoder took new content for known content")
        original = Original(
            stamp=source.stamp,
            sha256=rendered.sha256,
            bytes=source.bytes,
            format=rendered.format,
            width=rendered.width,
            height=rendered.height,
            color=rendered.color,
            thumbhash=rendered.placeholder.thumbhash,
            blurhash=rendered.placeholder.blurhash,
        )
        if known and known.sha256 == rendered.sha256:  # the answer's are those of another variant
            original = replace(original, color=known.color or rendered.color)
            if not lacks_placeholder(known, recipe):
                original = replace(original, thumbhash=known.thumbhash, blurhash=known.blurhash)
        else:
            kept = await _find_stored(claim, recipe, rendered.sha256, blobs)
        made = _made(claim.upload.id, recipe, rendered, kept)
        if time.perf_counter() - claimed_at < _LONG_S or await holds(claim):  # or its outcome is not written
            await blobs.store([(key, one.content) for key, one in made.items()])
        fresh = {one.name: _stored(key, one) for key, one in made.items()}
        publish_ms = (time.perf_counter() - rendered_at) * 1000
        ms = _clocked({**rendered.ms, **waits, "publish": publish_ms}, began)
        written = sum(one.bytes for one in fresh.values())
        ready = Ready(claim, original, _in_order(recipe, {**kept, **fresh}), source.info)
        return Made(ready, ms, written=written)


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

    `forbidden` is why it may not go: the outcome says that it was kept. It says in any case what became of
    the original. `holds` is asked before each: a worker that was frozen must not remove what has been made
    again since.

    Raises: StorageError; the same call again does the rest.
    """
    for key in keys:
        if not await holds(claim):
            return Removed(claim)  # and its outcome is not written
        await blobs.delete(key)
    source = claim.upload.source
    if source is None:
        return Removed(claim, original=OriginalFate.MISSING)
    if not with_original or forbidden is not None:
        fate = (await find_fates([source], blobs))[source]
        is_refused = with_original and fate is OriginalFate.KEPT
        return Removed(claim, forbidden if is_refused else None, fate)
    if not await holds(claim):
        return Removed(claim)
    folder = deletion_folder(claim.upload.id, claim.token)
    try:
        moved = await blobs.move(source, trash_key(folder, source))
    # What is no regular file was never this upload's; and a bucket has no room for a key that is too long.
    except (BlobRefused, BlobPinned, KeyRefused) as error:
        return Removed(claim, kept=str(error))
    return Removed(claim, original=OriginalFate.MISSING if moved is None else OriginalFate.TRASHED)


async def find_fates(sources: Sequence[str], blobs: Stat) -> Mapping[str, OriginalFate]:
    """What there is of originals that nobody touches: all that is not surely gone."""
    try:
        found = await blobs.stat(sources) if sources else {}
    except StorageError:
        return dict.fromkeys(sources, OriginalFate.KEPT)
    return {
        source: OriginalFate.MISSING if seen is Existence.MISSING else OriginalFate.KEPT
        for source, seen in found.items()
    }


async def _find_stored(claim: Claim, recipe: Recipe, sha256: str, blobs: PictureBlobs) -> Kept:
    """The variants of `recipe` that the upload has of that content, by name: their files are there, whole.

    What is stored under a name stays, although another version of a library, or of the recipe, might make
    other bytes of it now.
    """
    if not claim.upload.variants and not claim.superseded:
        return {}
    names = {key_of(claim.upload.id, variant, sha256): variant.name for variant in recipe.variants}
    current = [one for one in claim.upload.variants if one.key in names and one.sha256 != DAMAGED]
    found = await _find_whole_size(current, blobs)
    # No sweep repairs a superseded one that is damaged, so it is verified before it is current again.
    found += [one for one in claim.superseded if one.key in names and await _is_whole(one, blobs)]
    return {names[one.key]: one for one in found}


def _made(upload_id: UUID, recipe: Recipe, rendered: Rendered, kept: Kept) -> Mapping[str, RenderedVariant]:
    """What was rendered and is to be stored, by key."""
    variants = {variant.name: variant for variant in recipe.variants}
    return {
        key_of(upload_id, variants[made.name], rendered.sha256): made
        for made in rendered.variants
        if made.name not in kept
    }


def _in_order(recipe: Recipe, stored: Kept) -> Sequence[StoredVariant]:
    return [stored[variant.name] for variant in recipe.variants]


async def _is_whole(variant: StoredVariant, blobs: Open) -> bool:
    try:
        async with blobs.open(variant.key) as file:
            return await in_thread(content_sha256, file.fd) == variant.sha256
    except (BlobNotFound, BlobRefused):
        return False


async def _find_whole_size(variants: Sequence[StoredVariant], blobs: Stat) -> list[StoredVariant]:
    """Those of `variants` whose files are there, in their sizes. Raises: BlobsUnavailable if nobody says."""
    found = await blobs.stat([one.key for one in variants]) if variants else {}
    for key, seen in found.items():
        if seen is Existence.UNKNOWN:
            raise BlobsUnavailable(f"the storage did not say whether {key} is there")
    sizes = {key: seen.bytes for key, seen in found.items() if isinstance(seen, BlobInfo)}
    return [one for one in variants if sizes.get(one.key) == one.bytes]


async def _has_content(source: Source, sha256: str) -> bool:
    """Whether the file is still the picture with that SHA-256."""
    await source.fetch()
    digest = await in_thread(content_sha256, source.fd)
    source.release()
    return digest == sha256


async def _may_be_unfinished(error: PictureRefused, source: Source) -> bool:
    """Whether the file is one as it lies there while somebody writes it: damaged, empty, or not begun."""
    if error.code != "unsupported_format":
        return error.code == "corrupt_image"
    await source.fetch()
    begin = os.pread(source.fd, _BEGIN, 0)
    return len(begin) < _BEGIN or not any(begin)


async def _check_unchanged(key: str, source: Source, blobs: Stamp) -> None:
    try:
        if await blobs.stamp(key) == source.stamp:
            return
    except BlobNotFound:
        pass
    raise SourceChanged(_CHANGED)


def _stored(key: str, made: RenderedVariant) -> StoredVariant:
    return StoredVariant(made.name, key, made.width, made.height, len(made.content), made.sha256)


def key_of(upload_id: UUID, variant: Variant, content_sha256: str) -> str:
    """Where that variant lives, for that upload and content."""
    return variant_key(variant.uuid(upload_id, content_sha256), variant.format)


def _clocked(ms: Milliseconds, began: float) -> Milliseconds:
    return {**ms, "upload": (time.perf_counter() - began) * 1000}
