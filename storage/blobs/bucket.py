"""A bucket, as this program asks it: so many requests at once, and each answer is an object or an error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    InvalidPathError,
    PreconditionError,
)

from storage.blobs import BlobInfo
from storage.blobs.raw import RawFolder, delete_if, list_folders, list_raw
from storage.blobs.raw_put import put_stream
from storage.blobs.s3_client import SIGNED_FOR, open_store
from storage.blobs.s3_errors import REFUSED, is_past_the_end, names_missing_bucket, refused, unavailable
from storage.blobs.s3_place import S3Place
from storage.errors import BlobChanged, BlobNotFound, BlobsUnavailable, RootMismatch
from storage.keys import MARKER, VARIANTS, behind_folder
from storage.threads import in_thread

if TYPE_CHECKING:  # they are names of its stubs alone
    from obstore import GetOptions, GetResult, ObjectMeta, PutMode

CREATE: Literal["create"] = "create"
OVERWRITE: Literal["overwrite"] = "overwrite"

_SHA256 = "sha256"  # in an object's own metadata, which a copy keeps
_FOR_EVER = "public, max-age=31536000, immutable"
_KINDS = {
    "avif": "image/avif",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "png": "image/png",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
}
_GET, _PUT, _DELETE, _LIST = "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"
_PAUSES_S = (0.2, 1.0)  # before what the client does not try again by itself is
_AT_ONCE = 32  # requests
_CHUNK = 512 * 1024  # bytes that are read at once; for a moment there are two of them
STREAMED = 512 * 1024  # bytes; what is larger, and known to be so, is written as it comes
PART = 8 * 1024 * 1024  # bytes; what is larger is read and written in parts, where memory must be bounded


class AlreadyThere(Exception):
    """There is an object under the key already: perhaps by the same request, whose answer was lost."""


class RangeRefused(Exception):
    """The object has none of the bytes that were asked for."""


@dataclass(frozen=True)
class Found:
    """An object: key, size in bytes, when it was written (whole s since 1970), ETag and known hash."""

    key: str
    bytes: int
    modified: int
    e_tag: str
    sha256: str | None = None  # a listing knows none

    @property
    def stamp(self) -> str:
        """A text that differs after every change of the object."""
        return f"{self.e_tag}:{self.bytes}:{self.modified}"

    def info(self) -> BlobInfo:
        """The same as every storage says it. A copy has another age, and may have another ETag."""
        tag = hashlib.sha256(self.e_tag.encode()).digest()
        # The time has whole seconds: what is behind them tells contents apart.
        written_ns = self.modified * 10**9 + int.from_bytes(tag[:4], "big") % 10**9
        return BlobInfo(self.key, self.bytes, self.modified, self.sha256 or self.e_tag, written_ns)


@dataclass(frozen=True)
class Answer:
    """An object whose bytes are on their way; they are read once."""

    found: Found
    _result: GetResult
    _answered: Callable[[], AbstractContextManager[None]]

    async def parts(self) -> AsyncIterator[memoryview]:
        """The bytes, part by part, where the client has them. Raises: BlobsUnavailable."""
        with self._answered():
            async for part in self._result.stream(min_chunk_size=_CHUNK):
                yield memoryview(part)

    async def whole(self) -> bytes:
        """All bytes. Raises: BlobsUnavailable."""
        with self._answered():
            return bytes(await self._result.bytes_async())


class Bucket:
    """One bucket, or a prefix in it.

    Every request raises BlobNotFound, BlobForbidden, BlobsUnavailable, or RootMismatch where there is no such
    bucket. The answer to HEAD does not tell a missing bucket from a missing object.
    """

    def __init__(self, place: S3Place) -> None:
        self.place = place
        self._store = open_store(place)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def head(self, key: str) -> Found:
        async with self._slots:
            with answered(key, self.place):
                result = await obstore.get_async(self._store, key, options={"head": True})
        return _found(key, result.meta, result.attributes)

    async def get(self, key: str, e_tag: str | None = None, part: tuple[int, int] | None = None) -> Answer:
        """The object, whose bytes (of `part`: from, to) are still to be read.

        Raises: BlobChanged where its ETag is another.
        """
        right = f"{_GET}, and {_LIST} to say that it is missing" if key == MARKER else _GET
        async with self._slots:
            with answered(key, self.place, right):
                options: GetOptions = {"if_match": e_tag} if e_tag else {}
                if part:
                    options["range"] = part
                result = await obstore.get_async(self._store, key, options=options)
        found = _found(key, result.meta, result.attributes)
        return Answer(found, result, partial(answered, key, self.place))

    async def put(
        self, key: str, content: bytes, attributes: Mapping[str, str], mode: Literal["create", "overwrite"]
    ) -> None:
        """Write an object: only where there is none, or in any case. Raises: AlreadyThere."""
        await self._put(key, content, attributes, mode)

    async def replace(self, old: Found, content: bytes, attributes: Mapping[str, str]) -> None:
        """Write an object in the place of `old`. Raises: BlobChanged where that is another by now."""
        await self._put(old.key, content, attributes, {"e_tag": old.e_tag})

    async def put_parts(self, key: str, content: AsyncIterator[bytes], attributes: Mapping[str, str]) -> None:
        """Write an object that is large part by part, so that each has the time of a request for itself."""
        await self._put(key, content, attributes, OVERWRITE, in_parts=True)

    async def put_stream(
        self, key: str, content: AsyncIterator[bytes], size: int, attributes: Mapping[str, str]
    ) -> None:
        """Write an object of that size as its bytes come, however slowly; none of them wait in memory."""
        with answered(key, self.place, _PUT):
            url = await obstore.sign_async(self._store, "PUT", key, SIGNED_FOR)
            await put_stream(url, content, size, attributes)

    async def _put(
        self,
        key: str,
        content: bytes | AsyncIterator[bytes],
        attributes: Mapping[str, str],
        mode: PutMode,
        *,
        in_parts: bool = False,  # which stay after a crash
    ) -> None:
        async with self._slots:
            with answered(key, self.place, _PUT):
                await obstore.put_async(
                    self._store,
                    key,
                    content,
                    attributes=dict(attributes),
                    mode=mode,
                    use_multipart=in_parts,
                    chunk_size=PART,
                    max_concurrency=1,
                )

    async def copy(self, key: str, to: str) -> None:
        self.place.check_length(to)
        async with self._slots:
            with answered(key, self.place, f"{_PUT}, and {_GET} of {key}"):
                await obstore.copy_async(self._store, key, to)

    async def delete(self, key: str, e_tag: str = "") -> None:
        """Remove the object, of whatever ETag or of that one. Raises: BlobChanged where its ETag is another.

        Some servers know no such condition: they remove the object in any case.
        """
        async with self._slots:
            with answered(key, self.place, _DELETE):
                if e_tag:
                    await self._delete_if(key, e_tag)
                else:
                    await obstore.delete_async(self._store, key)

    async def _delete_if(self, key: str, e_tag: str) -> None:
        # The client has headers for all requests of a store alone. A store for each deletion would connect
        # anew and, where a role gives the credentials, ask for a token of its own.
        for pause_s in _PAUSES_S:
            with suppress(GenericError):
                await self._try_to_delete_if(key, e_tag)
                return
            await asyncio.sleep(pause_s)
        await self._try_to_delete_if(key, e_tag)

    async def _try_to_delete_if(self, key: str, e_tag: str) -> None:
        url = await obstore.sign_async(self._store, "DELETE", key, SIGNED_FOR)
        await in_thread(delete_if, url, e_tag)

    async def list(self, prefix: str, after: str) -> AsyncIterator[Sequence[Found]]:
        """The objects below the folder `prefix` after that key, with any keys, as the server sorts them."""
        while True:
            # A page with a key that the client cannot name; or `after` is one.
            with suppress(InvalidPathError, ValueError):
                async for page in self._list(prefix, after):
                    yield page
                    after = page[-1].key
                return
            page = await self._any_keys(f"{prefix}/", after)
            if not page:
                return
            after = page[-1].key
            yield [found for found in page if found.bytes or not found.key.endswith("/")]

    async def _list(self, prefix: str, after: str) -> AsyncGenerator[Sequence[Found], None]:
        with answered(f"{prefix}/" if prefix else "the bucket", self.place, _LIST):
            async for page in obstore.list(
                self._store, prefix or None, offset=after or None, chunk_size=1000
            ):
                yield [_found(meta["path"], meta, {}) for meta in page]

    async def _any_keys(self, start: str, after: str) -> Sequence[Found]:
        async with self._slots:
            listed = await in_thread(list_raw, self.place, start, after)
        return [Found(one.key, one.bytes, one.modified, one.e_tag) for one in listed]

    async def folders(self, prefix: str, start: str, after: str) -> AsyncGenerator[Sequence[RawFolder], None]:
        """The folders below `prefix` whose names begin with `start`, after that one."""
        behind, token = behind_folder(after.rstrip("/")) if after else "", ""
        while True:
            page, token = await self._page_of_folders(f"{prefix}/{start}", behind, token)
            yield page
            if not token:
                return

    async def _page_of_folders(self, start: str, after: str, token: str) -> tuple[Sequence[RawFolder], str]:
        for pause_s in _PAUSES_S:
            with suppress(BlobsUnavailable):
                async with self._slots:
                    return await in_thread(list_folders, self.place, start, after, token)
            await asyncio.sleep(pause_s)
        async with self._slots:
            return await in_thread(list_folders, self.place, start, after, token)

    async def check_listing(self, prefix: str) -> None:
        """Ask for the first objects below the folder `prefix`."""
        with suppress(InvalidPathError):  # a key among them that the client cannot name
            async with self._slots, aclosing(self._list(prefix, "")) as pages:
                await anext(pages, [])

    async def shows(self, name: str) -> bool:
        """Whether a listing shows an object that lies in no folder, in the first page from its name on."""
        page: Sequence[Found]
        try:
            async with self._slots, aclosing(self._list("", name[:-1])) as pages:
                page = await anext(pages, [])
        except InvalidPathError:
            page = await self._any_keys(name, "")
        return name in [found.key for found in page]


@contextmanager
def answered(subject: str, place: S3Place, right: str = _GET) -> Iterator[None]:
    """Raise what the client raises about `subject` (a key) as an error of this layer; or KeyRefused."""
    place.check_length(subject)
    try:
        yield
    except AlreadyExistsError as error:
        raise AlreadyThere(subject) from error
    except PreconditionError as error:
        raise BlobChanged(f"{subject} was replaced meanwhile") from error
    except InvalidPathError:
        raise
    except (BaseError, FileNotFoundError) as error:
        if names_missing_bucket(error):
            raise RootMismatch(f"There is no bucket {place.bucket} at {place.endpoint or 'AWS'}.") from error
        if isinstance(error, FileNotFoundError):
            raise BlobNotFound(f"there is no {subject}") from error
        if is_past_the_end(error):
            raise RangeRefused(subject) from error
        if isinstance(error, REFUSED):
            raise refused(subject, error, right) from error
        raise unavailable(subject, error, right) from error


def read_now(place: S3Place, key: str, within_s: float) -> bytes:
    """The bytes under `key`, tried once, without an event loop. Raises: as `Bucket`."""
    with answered(key, place):
        result = obstore.get(open_store(place, 0, within_s), key)
        _found(key, result.meta, {})
        return bytes(result.bytes())


def _found(key: str, meta: ObjectMeta, attributes: Mapping[str, str]) -> Found:
    if not meta["e_tag"]:  # a portal, or a wrong port
        raise BlobsUnavailable(f"the storage failed at {key}: it answers without an ETag, as no S3 does")
    modified = int(meta["last_modified"].timestamp())
    return Found(key, meta["size"], modified, meta["e_tag"], attributes.get(_SHA256))


def attributes_of(key: str, content: bytes | None) -> Mapping[str, str]:
    """What an object says of itself beside its bytes, to browsers and to this program.

    Without the content it does not say its hash.
    """
    kind = _KINDS.get(key.rpartition(".")[2].lower(), "application/octet-stream")
    lasting = {"Cache-Control": _FOR_EVER} if key.startswith(f"{VARIANTS}/") else {}
    known = {} if content is None else {_SHA256: hashlib.sha256(content).hexdigest()}
    return {"Content-Type": kind, **known, **lasting}
