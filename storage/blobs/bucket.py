"""A bucket, as this program asks it: so many requests at once, and each answer is an object or an error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError, PreconditionError
from obstore.store import S3Store

from storage.blobs import BlobInfo
from storage.blobs.s3_errors import REFUSED, names_missing_bucket, reason_of, unavailable
from storage.blobs.s3_place import S3Place
from storage.errors import BlobChanged, BlobForbidden, BlobNotFound, BlobsUnavailable, RootMismatch

if TYPE_CHECKING:  # they are names of its stubs alone
    from obstore import GetOptions, GetResult, ObjectMeta, PutMode

SHA256 = "sha256"  # in an object's own metadata, which a copy keeps
CREATE: Literal["create"] = "create"
OVERWRITE: Literal["overwrite"] = "overwrite"

_AT_ONCE = 32  # requests
_CHUNK = 1024 * 1024  # bytes that are read at once
_TRIES_AGAIN, _TRIES_S = 2, 10.0  # after the first try, and for how long; the client makes them
_TIMEOUT_S, _CONNECT_S = 30.0, 5.0


class AlreadyThere(Exception):
    """There is an object under the key already: perhaps by the same request, whose answer was lost."""


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

    async def parts(self) -> AsyncIterator[bytes]:
        """The bytes, part by part. Raises: BlobsUnavailable."""
        with self._answered():
            async for part in self._result.stream(min_chunk_size=_CHUNK):
                yield bytes(part)

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
        self._store = _store(place)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def head(self, key: str) -> Found:
        async with self._slots:
            with answered(key, self.place):
                result = await obstore.get_async(self._store, key, options={"head": True})
        return _found(key, result.meta, result.attributes)

    async def get(self, key: str, e_tag: str | None = None) -> Answer:
        """The object, whose bytes are still to be read. Raises: BlobChanged where its ETag is another."""
        async with self._slots:
            with answered(key, self.place):
                options: GetOptions = {"if_match": e_tag} if e_tag else {}
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

    async def _put(self, key: str, content: bytes, attributes: Mapping[str, str], mode: PutMode) -> None:
        async with self._slots:
            with answered(key, self.place):
                await obstore.put_async(
                    self._store,
                    key,
                    content,
                    attributes=dict(attributes),
                    mode=mode,
                    use_multipart=False,  # its parts would stay after a crash
                )

    async def copy(self, key: str, to: str) -> None:
        async with self._slots:
            with answered(key, self.place):
                await obstore.copy_async(self._store, key, to)

    async def delete(self, key: str, e_tag: str = "") -> None:
        """Remove the object, of whatever ETag or of that one. Raises: BlobChanged where its ETag is another.

        Some servers know no such condition: they remove the object in any case.
        """
        # The client has headers for all requests of a store alone, and where a role gives the credentials,
        # each store asks for a token of its own.
        store = _store(self.place, headers={"If-Match": e_tag}) if e_tag else self._store
        async with self._slots:
            with answered(key, self.place):
                await obstore.delete_async(store, key)

    async def list(self, prefix: str, after: str) -> AsyncIterator[Sequence[Found]]:
        """The objects below the folder `prefix` after that key, as the server sorts them."""
        with answered(f"{prefix}/", self.place):
            async for page in obstore.list(self._store, prefix, offset=after or None, chunk_size=1000):
                yield [_found(meta["path"], meta, {}) for meta in page]

    async def names_at_root(self) -> frozenset[str]:
        """The objects that lie in no folder, as a listing shows them."""
        async with self._slots:
            with answered("the bucket", self.place):
                listed = await obstore.list_with_delimiter_async(self._store)
        return frozenset(meta["path"] for meta in listed["objects"])


@contextmanager
def answered(subject: str, place: S3Place) -> Iterator[None]:
    """Raise what the client raises about `subject` (a key) as an error of this layer."""
    try:
        yield
    except AlreadyExistsError as error:
        raise AlreadyThere(subject) from error
    except PreconditionError as error:
        raise BlobChanged(f"{subject} was replaced meanwhile") from error
    except InvalidPathError as error:
        raise BlobsUnavailable(
            f"{subject} has an object whose key has an empty, '.' or '..' segment, which ends each listing: "
            f"rename or delete it. {str(error).splitlines()[0]}"
        ) from error
    except (BaseError, FileNotFoundError) as error:
        if names_missing_bucket(error):
            raise RootMismatch(f"There is no bucket {place.bucket} at {place.endpoint or 'AWS'}.") from error
        if isinstance(error, FileNotFoundError):
            raise BlobNotFound(f"there is no {subject}") from error
        if isinstance(error, REFUSED):
            raise BlobForbidden(f"the storage refused {subject}: {reason_of(error)}") from error
        raise unavailable(subject, error) from error


def read_now(place: S3Place, key: str, within_s: float) -> bytes:
    """The bytes under `key`, tried once, without an event loop. Raises: as `Bucket`."""
    with answered(key, place):
        result = obstore.get(_store(place, 0, within_s), key)
        _found(key, result.meta, {})
        return bytes(result.bytes())


def _store(
    place: S3Place,
    tries_again: int = _TRIES_AGAIN,
    timeout_s: float = _TIMEOUT_S,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> S3Store:
    in_the_host = place.addressing == "auto" and not place.endpoint and "." not in place.bucket
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        config={"endpoint": place.endpoint} if place.endpoint else None,
        virtual_hosted_style_request=in_the_host,
        checksum_algorithm="SHA256",
        disable_bulk_delete=True,  # the client dies of an answer to it that names another key
        client_options={
            "allow_http": place.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=min(_CONNECT_S, timeout_s)),
            "default_headers": dict(headers),
        },
        retry_config={"max_retries": tries_again, "retry_timeout": timedelta(seconds=_TRIES_S)},
    )


def _found(key: str, meta: ObjectMeta, attributes: Mapping[str, str]) -> Found:
    if not meta["e_tag"]:  # a portal, or a wrong port
        raise BlobsUnavailable(f"the storage failed at {key}: it answers without an ETag, as no S3 does")
    modified = int(meta["last_modified"].timestamp())
    return Found(key, meta["size"], modified, meta["e_tag"], attributes.get(SHA256))
