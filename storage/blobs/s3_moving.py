"""Objects that are given other keys: a copy, and then the removal of what was copied."""

from contextlib import suppress

from storage.blobs.bucket import CREATE, AlreadyThere, Bucket, Found, attributes_of
from storage.blobs.s3_trial import write_a_little
from storage.errors import (
    BlobChanged,
    BlobForbidden,
    BlobNotFound,
    BlobPinned,
    BlobsUnavailable,
    TargetUnavailable,
)
from storage.keys import UPLOADS

TRIES = 3  # at what another writer of the same object may undo


async def move_object(bucket: Bucket, seen: Found, to: str) -> Found:
    """Move an object that was seen; what is under `to` is replaced. Returns the object under `to`.

    Raises: BlobNotFound, BlobPinned, TargetUnavailable, BlobsUnavailable.
    """
    seen, copied = await _copy(bucket, seen, to)
    await _remove_copied(bucket, seen)
    return copied


async def move_aside(bucket: Bucket, seen: Found, to: str) -> Found | None:
    """The same, but only to where nothing is; returns None where something else is.

    Not every server copies on that condition, but each writes on it.
    """
    answer = await bucket.get(seen.key)
    content = await answer.whole()
    try:
        with suppress(AlreadyThere):
            await bucket.put(to, content, attributes_of(to, content), CREATE)
    except BlobForbidden as error:
        raise TargetUnavailable(f"nothing can be written under {to}: {error}") from error
    there = await bucket.get(to)
    if await there.whole() != content:
        return None
    await _remove_copied(bucket, answer.found)
    return there.found


async def _copy(bucket: Bucket, seen: Found, to: str) -> tuple[Found, Found]:
    """The object as it is at the end, if others replace it meanwhile, and its copy."""
    for _ in range(TRIES):
        try:
            await bucket.copy(seen.key, to)
        except BlobForbidden as error:
            raise await _cause(bucket, seen.key, to, error) from error
        copied, now = await bucket.head(to), await _if_there(bucket, seen.key)
        # Where it is gone, somebody removed it or moved it to the same place: perhaps this is the only copy.
        if now is None or now.stamp == seen.stamp:
            return seen, copied
        seen = now
    raise BlobsUnavailable(f"{seen.key} is written by others all the time")


async def _if_there(bucket: Bucket, key: str) -> Found | None:
    with suppress(BlobNotFound):
        return await bucket.head(key)
    return None


async def _cause(bucket: Bucket, key: str, to: str, error: BlobForbidden) -> BlobsUnavailable:
    """Why a copy is refused: S3 answers the same where an object, or its tags, may not be read."""
    try:
        await write_a_little(bucket, to.split("/")[0])
    except BlobForbidden:
        return TargetUnavailable(f"nothing can be written under {to}: {error}")
    return BlobPinned(f"{key} cannot be copied from where it lies: {error}")


async def _remove_copied(bucket: Bucket, copied: Found) -> None:
    """Remove an object of which there is a copy. Another that has come in its place meanwhile stays."""
    # What others write is original; a variant whose key is marked has no row, and is published again.
    e_tag = copied.e_tag if copied.key.startswith(f"{UPLOADS}/") else ""
    try:
        with suppress(BlobNotFound, BlobChanged, AlreadyThere):  # how S3 names a writer at that moment
            await bucket.delete(copied.key, e_tag)
    except BlobForbidden as error:
        raise BlobPinned(f"{copied.key} cannot be removed from where it lies: {error}") from error
