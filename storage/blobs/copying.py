"""Blobs copied from one storage to another, of whatever backends, while workers go on writing the first."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol
from uuid import uuid4

from storage.blobs import (
    BlobInfo,
    CheckIdentity,
    Existence,
    Identity,
    Inspect,
    Move,
    Probe,
    ProveListing,
    Put,
    Read,
)
from storage.blobs.copy_notes import CopyNotes, NoteVerbs
from storage.errors import (
    BlobChanged,
    BlobNotFound,
    BlobRefused,
    BlobsUnavailable,
    KeyRefused,
    RootMismatch,
    StorageError,
    StorageFull,
    VolumeMissing,
)
from storage.keys import TRASH, UPLOADS, VARIANTS, copy_folder, trash_key
from storage.tasks import together

_AREAS = (UPLOADS, VARIANTS, TRASH)
_AT_ONCE = 16  # blobs: as many are read and written at the same time
_PAGE = 500  # keys
_BYTES_AT_ONCE = 32 * 1024 * 1024  # of blobs that are copied at the same time; memory has some copies of each
_LARGE = 16 * 1024 * 1024  # what a blob counts at most: larger ones are in memory part by part
_PASSING = (BlobChanged, BlobsUnavailable)  # what another try may not meet again
CLOCKS_DIFFER_S = 300.0  # at most, from one storage to the other


class CopyFrom(Read, Inspect, CheckIdentity, Protocol):
    """The verbs of the storage that is copied; none of them changes it."""


class CopyTo(NoteVerbs, Put, Move, Inspect, Identity, Probe, ProveListing, Protocol):
    """The verbs of the storage that becomes the copy; what is not a copy's leaves it for its trash alone."""


class CatalogKeys(Protocol):
    """What the catalog has, as the copy needs it."""

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        """The first keys of an area that rows have after `after` and up to `upto`, in order.

        None: there are no more.
        """


class NoKeys:
    """A catalog that knows of nothing."""

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        return []


class Extra(Enum):
    """What becomes of originals that the copy has, and that neither its source has nor a copy has written."""

    KEEP = "keep"
    TRASH = "trash"


@dataclass(frozen=True)
class CopyStep:
    """What became of a page of keys in `area`, up to the key `last`.

    `extra` are those of which the target has another, newer one, which stays. `refused` says of blobs that
    cannot be copied why not.
    """

    area: str
    last: str
    copied: int = 0
    bytes: int = 0
    same: int = 0
    extra: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


async def check_target(target: CopyTo, catalog_id: str, url: str, *, dry_run: bool = False) -> None:
    """Raises: RootMismatch unless `target` is empty, or has an old or unfinished copy of the same storage."""
    owner = await target.catalog_id()
    if owner is None and not await _is_empty(target):
        raise RootMismatch(f"{url} holds blobs, and no marker says whose: choose an empty place.")
    if owner is None and not dry_run:  # which writes nothing, and so can be told anything
        await target.prove_listing()  # others' blobs would be replaced here, and leave for the trash later
    if owner is not None and not owner.startswith(f"{catalog_id} ("):
        raise RootMismatch(f"{url} belongs to the catalog {owner}: choose an empty place.")


async def _is_empty(blobs: Inspect) -> bool:
    for area in _AREAS:
        async with aclosing(blobs.list(area)) as pages:
            async for _ in pages:
                return False
    return True


class BlobCopy:
    """The copy of the blobs of `source` in `target`; with `dry_run` nothing is written.

    A blob is copied where the target has none, or one of another size; an original also where it was
    written after its copy was. The name of a variant stands for its bytes. An original in the target that is
    another, and newer, is somebody's: `extra` says whether it makes room, and without a word it stays.

    Only blobs of `areas` are copied, and unless it is `noted` what the copy has written, nobody can tell that
    later. `link` gives the target a blob without copying it; it returns None where it cannot.
    What the target has under a key is replaced inside `replacing`, which keeps it as an earlier version.
    """

    def __init__(
        self,
        source: CopyFrom,
        target: CopyTo,
        catalog: CatalogKeys = NoKeys(),  # noqa: B008 (it has no state)
        *,
        dry_run: bool = False,
        extra: Extra | None = None,
        clocks_differ_s: float = CLOCKS_DIFFER_S,
        areas: Sequence[str] = _AREAS,
        noted: bool = True,
        link: Callable[[str], Awaitable[int | None]] | None = None,
        replacing: Callable[[str], AbstractAsyncContextManager[object]] | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._catalog = catalog
        self._dry_run = dry_run
        self._extra = extra
        self._folder = copy_folder(uuid4())
        self._clocks_differ_s = clocks_differ_s
        self._areas = areas
        self._noted = noted
        self._link = link
        self._replacing = replacing or nullcontext
        self._keeps_versions = replacing is not None

    async def copy(
        self, area: str = "", after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[CopyStep, None]:
        """Copy what the target lacks, from behind the key `after` of `area` on; yields page by page.

        What rows have and a listing of the source left out is looked for all the same.

        Raises: BlobsUnavailable, StorageFull, RootMismatch; a copy that goes on behind the last page misses
        nothing.
        """
        for name in self._areas[self._areas.index(area) if area else 0 :]:
            last = after if name == area else ""
            async with aclosing(self._source.list(name, last, on_misnamed=on_misnamed)) as pages:
                async for page in pieces(pages):
                    # Not every server sorts by the whole key, so the last key is not always the largest.
                    before, last = last, max(last, page[-1])
                    yield await self._copy_page(name, page)
                    async for step in self._copy_unlisted(name, before, last, frozenset(page)):
                        yield step
            async for step in self._copy_unlisted(name, last, None, frozenset()):
                yield step

    async def _copy_unlisted(
        self, area: str, after: str, upto: str | None, listed: frozenset[str]
    ) -> AsyncIterator[CopyStep]:
        while keys := await self._catalog.keys(area, after, upto):
            if unlisted := [key for key in keys if key not in listed]:
                yield await self._copy_page(area, unlisted)
            after = keys[-1]

    async def _copy_page(self, area: str, keys: Sequence[str]) -> CopyStep:
        seen, copies = await together(self._source.stat(keys), self._target.stat(keys))
        found = [info for info in seen.values() if isinstance(info, BlobInfo)]
        newer = [info.key for info in found if self._is_newer(area, info, copies[info.key])]
        kept = newer if self._extra is not Extra.TRASH else await self._make_room(newer)
        lacking = [info for info in found if not self._has_copy(area, info, copies[info.key])]
        lacking = [info for info in lacking if info.key not in kept]
        refused = {key: "it cannot be read" for key, info in seen.items() if info is Existence.UNKNOWN}
        if self._dry_run:
            sizes: Mapping[str, int] = {info.key: info.bytes for info in lacking}
        else:
            sizes = await self._copy_all(area, lacking, refused)
        same = len(found) - len(lacking) - len(kept)
        return CopyStep(
            area, keys[-1], len(sizes), sum(sizes.values()), same, extra=sorted(kept), refused=refused
        )

    async def _make_room(self, keys: Sequence[str]) -> Collection[str]:
        return () if self._dry_run else await set_aside(self._target, self._folder, keys)

    async def _copy_all(
        self, area: str, infos: Sequence[BlobInfo], refused: dict[str, str]
    ) -> Mapping[str, int]:
        """Copy these; returns the bytes of each, and notes in `refused` why others cannot be copied."""
        sizes: dict[str, int] = {}
        for group in _groups(infos):
            keys = [info.key for info in group]
            for key, done in zip(keys, await together(*map(self._copy_one, keys)), strict=True):
                done = await self._copy_alone(key) if isinstance(done, _PASSING) else done
                if isinstance(done, int):
                    sizes[key] = done
                elif not isinstance(done, BlobNotFound):  # that was removed since it was listed
                    refused[key] = str(done)
        if area == UPLOADS and self._noted:
            await CopyNotes(self._target).note(sizes)
        return sizes

    async def _copy_alone(self, key: str) -> int | StorageError:
        """Copy one that failed beside others: a line may be slow. Raises: StorageError in an outage."""
        await self._source.check_identity()
        await self._target.probe()
        return await self._copy_one(key)

    async def _copy_one(self, key: str) -> int | StorageError:
        """Copy one blob; returns its bytes, or why it was not copied."""
        try:
            async with self._replacing(key):
                if self._link is not None and (size := await self._link(key)) is not None:
                    return size
                async with aclosing(self._source.read(key)) as parts:
                    return await self._target.put(key, parts)
        except (StorageFull, VolumeMissing):
            raise
        except (BlobNotFound, BlobRefused, KeyRefused, *_PASSING) as error:
            return error

    def _is_newer(self, area: str, info: BlobInfo, copy: BlobInfo | Existence) -> bool:
        """Whether the target has a newer original: somebody has written another there since."""
        if area != UPLOADS or not isinstance(copy, BlobInfo) or copy.bytes == info.bytes:
            return False
        # Where versions are kept, nobody but copies writes there, and nothing is lost.
        return not self._keeps_versions and self._is_older(info, copy)

    def _has_copy(self, area: str, info: BlobInfo, copy: BlobInfo | Existence) -> bool:
        if not isinstance(copy, BlobInfo) or copy.bytes != info.bytes:
            return False
        if self._link is not None and info.identity == copy.identity:
            return True
        return area == VARIANTS or self._is_older(info, copy)

    def _is_older(self, info: BlobInfo, copy: BlobInfo) -> bool:
        """Whether the source has surely not changed since the target's blob was written."""
        # A file that gets a second name, as a version has it, counts as changed.
        written = copy.written_ns / 1e9 if self._keeps_versions else copy.changed_at
        return info.changed_at + self._clocks_differ_s < written


async def set_aside(target: Move, folder: str, keys: Sequence[str]) -> Collection[str]:
    """Move these to that folder of the target's trash, which a purge empties once the retention is over.

    Returns those that stay, because a key of the trash would be too long for the target.
    """
    stay: set[str] = set()

    async def move(key: str) -> None:
        try:
            await target.move(key, trash_key(folder, key))
        except KeyRefused:
            stay.add(key)

    for start in range(0, len(keys), _AT_ONCE):
        group = keys[start : start + _AT_ONCE]
        await together(*map(move, group))
    return stay


async def pieces(pages: AsyncGenerator[Sequence[str], None]) -> AsyncIterator[Sequence[str]]:
    """The keys of all pages, in pages that are small enough for one step."""
    async for page in pages:
        for start in range(0, len(page), _PAGE):
            yield page[start : start + _PAGE]


def _groups(infos: Sequence[BlobInfo]) -> Iterator[Sequence[BlobInfo]]:
    """The same in their order, as many at once as memory and a slow line bear."""
    group: list[BlobInfo] = []
    weight = 0
    for info in infos:
        needed = min(info.bytes, _LARGE)
        if group and (len(group) == _AT_ONCE or weight + needed > _BYTES_AT_ONCE):
            yield group
            group, weight = [], 0
        group.append(info)
        weight += needed
    if group:
        yield group
