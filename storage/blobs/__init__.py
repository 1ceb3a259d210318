"""Bytes under keys: a Protocol a verb, so that a signature shows what a function can destroy.

Every verb raises KeyRefused for a key that leaves the root, BlobsUnavailable when the storage did not
answer, StorageFull when there is no room.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

_STAT_AT_ONCE = 500  # blobs


class Existence(Enum):
    """What is known of a blob that cannot be read; only a sure MISSING may ever lead to a deletion."""

    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class BlobInfo:
    """A stored blob: key, size in bytes, age mark: max(mtime, ctime) in seconds since 1970."""

    key: str
    bytes: int
    changed_at: float
    identity: str = ""  # which file it is; another under the same key has another
    written_ns: int = 0  # mtime; in a bucket, what it lacks in exactness tells contents apart

    def is_same_file(self, other: "BlobInfo") -> bool:
        """Whether both are one file, whatever its key.

        There are file systems on which a file that gets another name gets another identity too.
        """
        same_bytes = (self.bytes, self.written_ns) == (other.bytes, other.written_ns)
        return self.identity == other.identity or same_bytes


def fingerprint(seen: BlobInfo | Existence) -> str:
    """The state of a blob as a text that differs after every change."""
    if isinstance(seen, BlobInfo):
        return f"{seen.bytes}:{seen.written_ns}:{seen.changed_at}"
    return seen.value


async def _at_hand() -> None:
    """A file's bytes need no fetching."""


@dataclass(frozen=True)
class Source:
    """An original, open for reading: a descriptor, its size in bytes, a stamp that changes with it.

    In a bucket its bytes take memory from `fetch` to `release`, after which they can be fetched again.
    """

    fd: int
    bytes: int
    stamp: str
    info: BlobInfo  # as `stat` returns it
    fetch: Callable[[], Awaitable[None]] = _at_hand
    """Has the bytes at the descriptor. Raises: BlobChanged, BlobNotFound, BlobsUnavailable."""
    release: Callable[[], None] = lambda: None
    """Returns their memory."""

    @property
    def is_at_hand(self) -> bool:
        """Whether its bytes need no fetching."""
        return self.fetch is _at_hand


@dataclass(frozen=True)
class BlobPart:
    """Bytes of a blob, and at which of its bytes they begin; the size and the stamp of the whole."""

    content: bytes
    start: int
    bytes: int
    stamp: str


@dataclass(frozen=True)
class Space:
    """How much room a storage has: bytes in all, bytes that are free for us, and files that may still come.

    `free_files` is None where only bytes count. What is neither used nor free for us is reserved for others.
    """

    bytes: int
    free_bytes: int
    free_files: int | None
    used_bytes: int


class Open(Protocol):
    def open(self, key: str, *, fetched: bool = True) -> AbstractAsyncContextManager[Source]:
        """The blob under `key` as a descriptor; without `fetched`, its bytes may not be there yet.

        Raises: BlobNotFound, BlobRefused.
        """


class Stamp(Protocol):
    async def stamp(self, key: str) -> str:
        """The stamp with which the blob under `key` would be opened.

        Raises: BlobNotFound, BlobRefused, BlobForbidden, BlobsUnavailable.
        """


class Read(Protocol):
    def read(self, key: str) -> AsyncGenerator[bytes, None]:
        """The bytes under `key`, part by part, in bounded memory; all of one content.

        Raises: BlobNotFound, BlobRefused, BlobChanged where it was replaced meanwhile.
        """


class ReadPart(Protocol):
    async def read_part(self, key: str, start: int, most: int, stamp: str = "") -> BlobPart:
        """At most so many bytes from `start` on; those before the end of the blob where it is negative.

        Raises: BlobNotFound, BlobRefused, BlobChanged where its stamp is not the one that is given.
        """


class Get(Protocol):
    async def get(self, key: str) -> bytes:
        """The bytes under `key`. Raises: BlobNotFound, BlobRefused."""


class Put(Protocol):
    async def put(self, key: str, chunks: AsyncIterator[bytes], size: int | None = None) -> int:
        """Store what `chunks` yield under `key`, whole or not at all; returns the number of bytes.

        Where their `size` is known, a bucket need not keep parts of them in memory.
        """


class Collect(Protocol):
    @property
    def collects(self) -> bool:
        """Whether `put` collects what is to come in memory, where its size is not known before."""


class Store(Protocol):
    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        """Store each content under its key, whole or not at all: durable first, then visible."""


class Delete(Protocol):
    async def delete(self, key: str) -> None:
        """Remove the blob under `key`; removing what is absent is fine."""


class Move(Protocol):
    async def move(self, key: str, to: str, *, replace: bool = True) -> BlobInfo | None:
        """Give the blob under `key` another key; returns what was moved, None where nothing was.

        Moving what is absent is fine. What is under `to` is replaced; or, without `replace`, it stays, and
        so does the blob under `key`.

        Raises: BlobRefused, BlobPinned where it cannot be taken away from under `key`, TargetUnavailable
        where nothing can be written under `to`.
        """


class Probe(Protocol):
    async def probe(self) -> None:
        """Write and remove a little, as a test of the storage as a whole."""


class ProveListing(Protocol):
    async def prove_listing(self) -> None:
        """Write and remove a little that a listing shows in between. Raises: BlobsUnavailable if not."""


class CheckIdentity(Protocol):
    async def check_identity(self) -> None:
        """Raises: RootMismatch where this is not the storage that it was."""


class Room(Protocol):
    async def space(self) -> Space | None:
        """How much room there is; None where nobody can say."""


class Stat(Protocol):
    async def stat(self, keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        """Size and age of the blob under each of `keys`; or MISSING, or UNKNOWN after any other error."""


class List(Protocol):
    def list(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[Sequence[str], None]:
        """The keys of all blobs below the folder `prefix`, page by page, in order, each once.

        Those up to the key `after` are left out. `on_misnamed` gets the path of what no key can name.
        """


class ListInfos(Protocol):
    def list_infos(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[BlobInfo, None]:
        """`list`, with the size and age of each blob; those whose state is unknown are left out.

        The identities are not those that `stat` says where a listing does not know them.
        """


class ListFolders(Protocol):
    async def folders(self, prefix: str, start: str = "", *, proved: bool = True) -> Sequence[str]:
        """The names of the folders directly below the folder `prefix` that begin with `start`, in order.

        What lies in them costs nothing. There may be empty ones among them. Unless it is to be `proved` that
        these are all, a server of objects is asked once.
        """


class Inspect(List, ListInfos, Stat, Protocol):
    """What reading sizes and ages of many blobs needs of a storage."""


class ListAndStat(List, Stat, Protocol):
    """What `stat_listed` needs of a storage."""


async def stat_listed(
    blobs: ListAndStat, prefix: str, after: str, on_misnamed: Callable[[str], object]
) -> AsyncGenerator[BlobInfo, None]:
    """`list_infos` of a storage whose listings have names alone."""
    async with aclosing(blobs.list(prefix, after, on_misnamed=on_misnamed)) as pages:
        async for page in pages:
            for start in range(0, len(page), _STAT_AT_ONCE):
                for info in (await blobs.stat(page[start : start + _STAT_AT_ONCE])).values():
                    if isinstance(info, BlobInfo):
                        yield info


class Blobs(
    Open,
    Stamp,
    Read,
    ReadPart,
    Get,
    Put,
    Collect,
    Store,
    Delete,
    Move,
    Inspect,
    ListFolders,
    Probe,
    ProveListing,
    CheckIdentity,
    Room,
    Protocol,
):
    """All verbs. Ask for less wherever less will do."""


class Identity(Protocol):
    """Which catalog a storage belongs to."""

    async def bind(self, catalog_id: str, *, catalog_is_new: bool) -> None:
        """Make sure that this storage belongs to the catalog `catalog_id`; a new pair is bound here.

        Raises: RootMismatch when it is another catalog's, or says none where it must say one,
        BlobsUnavailable.
        """

    async def rebind(self, catalog_id: str) -> None:
        """Give this storage to that catalog, whatever it belonged to. Raises: BlobsUnavailable."""

    async def catalog_id(self) -> str | None:
        """The catalog that this storage belongs to, if any. Raises: BlobsUnavailable."""


class SignLinks(Protocol):
    async def sign(self, key: str, seconds: int) -> str:
        """A URL under which anybody may read the blob for so long, whether it is there or not."""


class Prepare(Protocol):
    async def prepare(self) -> None:
        """Make ready to write: a place for unfinished writes, without those of processes that died."""

    async def find_lacks(self) -> Sequence[str]:
        """Returns what the storage cannot do, in words, as far as one can do without.

        Raises: FileSystemUnfit where one cannot, RootMismatch, StorageFull, BlobsUnavailable.
        """

    async def enter(self, area: str) -> None:
        """Raises: BlobsUnavailable where an area (`keys.AREAS`) cannot be entered, or is a missing volume."""


class Storage(Blobs, Identity, Prepare, Protocol):
    """All that a backend implements."""
