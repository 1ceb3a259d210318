"""Blobs as objects in a bucket: one request a verb, and nothing is missing before the bucket is there."""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from storage.blobs import BlobInfo, BlobPart, Existence, Source
from storage.blobs.bucket import (
    CREATE,
    OVERWRITE,
    PART,
    STREAMED,
    AlreadyThere,
    Answer,
    Bucket,
    Found,
    RangeRefused,
    attributes_of,
)
from storage.blobs.listing import until_proved
from storage.blobs.memory_file import MemoryFile, memory_file
from storage.blobs.parts import TakenChunks
from storage.blobs.s3_identity import S3Identity
from storage.blobs.s3_listing import blobs_among
from storage.blobs.s3_moving import TRIES, move_aside, move_object
from storage.blobs.s3_place import S3Place
from storage.blobs.s3_trial import (
    WriteState,
    check_listing,
    check_right_to_list,
    ignored_conditions,
    write_a_little,
)
from storage.errors import (
    BlobChanged,
    BlobForbidden,
    BlobNotFound,
    BlobsUnavailable,
    RootMismatch,
    StorageError,
)
from storage.keys import MARKER, VARIANTS, blob_folders, is_segment, segments
from storage.tasks import together

T = TypeVar("T")


class S3Blobs:
    """Blobs in a bucket; hold it through `open_s3`."""

    collects = True

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._writes = WriteState()
        self._identity = S3Identity(bucket, self._writes)

    # -- reading

    @asynccontextmanager
    async def open(self, key: str, *, fetched: bool = True) -> AsyncIterator[Source]:
        segments(key)
        with memory_file() as file:
            if fetched:
                answer = await self._sure(self._bucket.get(key))
                found = answer.found
                await _read(answer, file)
            else:
                found = await self._sure(self._bucket.head(key))
            fetch = partial(self._fetch, found, file)
            yield Source(file.fd, found.bytes, found.stamp, found.info(), fetch, file.empty)

    async def stamp(self, key: str) -> str:
        segments(key)
        return (await self._sure(self._bucket.head(key))).stamp

    async def _fetch(self, found: Found, file: MemoryFile) -> None:
        if not file.size:
            await _read(await self._sure(self._bucket.get(found.key, found.e_tag)), file)

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        segments(key)
        answer = await self._sure(self._bucket.get(key))
        found = answer.found
        if found.bytes <= PART:
            yield await answer.whole()
            return
        del answer  # its bytes would have to come within the time of one request
        for start in range(0, found.bytes, PART):
            part = start, min(start + PART, found.bytes)
            yield await (await self._sure(self._bucket.get(key, found.e_tag, part))).whole()

    async def read_part(self, key: str, start: int, most: int, stamp: str = "") -> BlobPart:
        segments(key)
        if start == 0 < most:
            with suppress(RangeRefused):  # of what is empty
                return await self._part(key, 0, most, stamp)
        found = await self._sure(self._bucket.head(key))
        begin = start if start >= 0 else max(0, found.bytes + start)
        if begin >= found.bytes or not most:
            return _part_of(found, b"", begin, stamp)
        return await self._part(key, begin, most, stamp or found.stamp)

    async def _part(self, key: str, start: int, most: int, stamp: str) -> BlobPart:
        answer = await self._sure(self._bucket.get(key, part=(start, start + most)))
        return _part_of(answer.found, await answer.whole(), start, stamp)

    async def get(self, key: str) -> bytes:
        segments(key)
        return await (await self._sure(self._bucket.get(key))).whole()

    async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        for key in keys:
            segments(key)
        found = dict(zip(keys, await together(*map(self._seen, keys)), strict=True))
        if Existence.MISSING in found.values() and not await self._is_here():
            unsure = dict.fromkeys(keys, Existence.UNKNOWN)
            return unsure | {key: seen for key, seen in found.items() if isinstance(seen, BlobInfo)}
        return found

    async def _seen(self, key: str) -> BlobInfo | Existence:
        try:
            return (await self._bucket.head(key)).info()
        except BlobNotFound:
            return Existence.MISSING
        except StorageError:
            return Existence.UNKNOWN

    async def _is_here(self) -> bool:
        try:
            await self.check_identity()
        except StorageError:
            return False
        return True

    async def _sure(self, asked: Coroutine[Any, Any, T]) -> T:
        """What was asked; that something is missing or refused counts only where the storage is there."""
        try:
            return await asked
        except (BlobNotFound, BlobForbidden):
            await self.check_identity()
            raise

    # -- listing

    async def list(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[Sequence[str], None]:
        async with aclosing(self._pages(prefix, after, on_misnamed)) as pages:
            async for page in pages:
                yield [found.key for found in page]

    async def list_infos(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[BlobInfo, None]:
        async with aclosing(self._pages(prefix, after, on_misnamed)) as pages:
            async for page in pages:
                for found in page:
                    yield found.info()

    def _pages(
        self, prefix: str, after: str, on_misnamed: Callable[[str], object]
    ) -> AsyncGenerator[Sequence[Found], None]:
        segments(prefix)
        ask = partial(self._bucket.list, prefix)
        found = until_proved(ask, after, self._identity.prove_listing)
        return blobs_among(found, prefix, self.stat, on_misnamed)

    async def folders(self, prefix: str, start: str = "", *, proved: bool = True) -> Sequence[str]:
        segments(prefix)
        names: set[str] = set()
        ask = partial(self._bucket.folders, prefix, start)
        found = until_proved(ask, "", self._identity.prove_listing) if proved else ask("")
        async with aclosing(found) as pages:
            async for page in pages:
                names |= {found.key.removeprefix(f"{prefix}/").rstrip("/") for found in page}
        return blob_folders(prefix, filter(is_segment, names))

    # -- writing

    async def put(self, key: str, chunks: AsyncIterator[bytes], size: int | None = None) -> int:
        segments(key)
        # A variant comes whole: only with its hash is it known to be the same after a move.
        is_variant = key.startswith(f"{VARIANTS}/")
        if size is not None and size >= STREAMED and not is_variant:
            with self._writes.watched():
                await self._bucket.put_stream(key, chunks, size, attributes_of(key, None))
            return size
        taken = TakenChunks(chunks)
        if is_variant:
            await taken.take(sys.maxsize)
        elif await taken.take(PART):
            with self._writes.watched():
                await self._bucket.put_parts(key, taken.read(), attributes_of(key, None))
            return taken.bytes
        content = taken.joined()
        with self._writes.watched():
            await self._bucket.put(key, content, attributes_of(key, content), OVERWRITE)
        return len(content)

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        for key, _ in contents:
            segments(key)
        with self._writes.watched():
            await together(*(self._store(key, content) for key, content in contents))

    async def _store(self, key: str, content: bytes) -> None:
        """Write what is not there yet. An answer may have been lost, so what is there is compared."""
        attributes = attributes_of(key, content)
        for _ in range(TRIES):
            with suppress(AlreadyThere):
                return await self._bucket.put(key, content, attributes, CREATE)
            with suppress(BlobNotFound, BlobChanged):
                there = await self._bucket.get(key)
                if await there.whole() != content:
                    await self._bucket.replace(there.found, content, attributes)
                return None
        raise BlobsUnavailable(f"{key} is written by others all the time")

    async def delete(self, key: str) -> None:
        segments(key)
        with self._writes.watched(), suppress(BlobNotFound):
            await self._bucket.delete(key)

    async def move(self, key: str, to: str, *, replace: bool = True) -> BlobInfo | None:
        segments(key)
        segments(to)
        try:
            seen = await self._sure(self._bucket.head(key))
            moved = await (move_object if replace else move_aside)(self._bucket, seen, to)
        except BlobNotFound:
            return None
        return moved.info() if moved else None

    # -- the storage as a whole

    async def probe(self) -> None:
        """Read the marker; and write and remove a little, where the last write failed.

        Raises: RootMismatch, StorageFull, BlobsUnavailable.
        """
        await self.check_identity()
        if not self._writes.work:
            with self._writes.watched():
                await write_a_little(self._bucket, VARIANTS)

    async def find_lacks(self) -> Sequence[str]:
        await self.probe()
        await check_right_to_list(self._bucket)
        with self._writes.watched():
            return await ignored_conditions(self._bucket)

    async def prove_listing(self) -> None:
        with self._writes.watched():
            await check_listing(self._bucket)

    async def prepare(self) -> None:
        """A request leaves nothing unfinished."""

    async def enter(self, area: str) -> None:
        """Do nothing: a bucket has no folders that could be missing."""

    async def space(self) -> None:
        """Return None: nobody can say how much room a bucket has."""

    # -- its identity

    async def check_identity(self) -> None:
        """Raises: RootMismatch where the bucket is gone, or not the one that was bound, BlobsUnavailable."""
        await self._identity.check()

    async def catalog_id(self) -> str | None:
        return await self._identity.owner()

    async def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        if catalog_is_new and await self._identity.owner() is None:
            await self._check_without_variants()
            await self._identity.take(catalog_id)
        await self._identity.bind(catalog_id)

    async def rebind(self, catalog_id: str) -> None:
        await self._identity.rebind(catalog_id)

    async def _check_without_variants(self) -> None:
        async with aclosing(self.list(VARIANTS)) as pages:
            async for _ in pages:
                raise RootMismatch(
                    f"{self._bucket.place} has no {MARKER}, but there are variants already, of another "
                    "catalog. Correct MEDIA_CATALOG_URL, or restore that one; where it is lost, `media "
                    "rebuild` makes a new one for an existing storage."
                )
        await self.prove_listing()


@asynccontextmanager
async def open_s3(place: S3Place) -> AsyncIterator[S3Blobs]:
    """The blobs at that place, which is asked when the first verb is."""
    yield S3Blobs(Bucket(place))


def _part_of(found: Found, content: bytes, start: int, stamp: str) -> BlobPart:
    if stamp not in ("", found.stamp):
        raise BlobChanged(f"{found.key} was replaced meanwhile")
    return BlobPart(content, start, found.bytes, found.stamp)


async def _read(answer: Answer, file: MemoryFile) -> None:
    try:
        async for part in answer.parts():
            file.append(part)
    except BaseException:
        file.empty()
        raise
