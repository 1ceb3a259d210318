"""A restore: a copy becomes the catalog, and what happened since it was made is applied to it again.

All of it is done to the copy beside the old catalog, while no worker runs; then it takes that one's place.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from storage import keys
from storage.backups.folder import FILES, BackupCopy, BackupFolder
from storage.backups.manifest import MANIFEST, read_manifest
from storage.backups.mending import MendStep, mend
from storage.backups.restoring import CatalogRestore, Replacement
from storage.backups.returning import fits, give_back
from storage.backups.versions import Versions, open_versions
from storage.blobs import Existence, Storage
from storage.blobs.opening import open_blobs, open_target
from storage.blobs.owners import check_owner
from storage.catalog.database import Database, identity
from storage.catalog.http_keys import HttpKey, read_keys
from storage.catalog.intake import EventStore
from storage.catalog.opening import Catalog
from storage.catalog.outbox import Outbox
from storage.catalog.replay import LaterState, Replay, Trashed, owners_since, waiting_since
from storage.catalog.restored import read_replaced
from storage.catalog.sources import Expected, Sources
from storage.errors import (
    CatalogUnavailable,
    CopyRefused,
    KeyRefused,
    RootMismatch,
    StorageError,
    StorageFull,
)
from worker.adoption import REBUILD, Adoption, Listing
from worker.backups import note_newest
from worker.documents import payload
from worker.health import EXPIRY_S
from worker.publisher import go_on_above
from worker.queue import Queue, QueueUnavailable
from worker.settings import Settings
from worker.upload_ids import default_id

_NO_SEQ = 2**53  # above all that are given
_CLOCKS_DIFFER_MS = 60_000
_GROUP = 500  # originals that are looked up at once
_REFUSED = ("invalid_event", "unknown_recipe")  # what an event that was refused is answered with


@dataclass
class Restored:
    """What a restore has done, or would do: uploads that were deleted and announced again, originals that
    were brought back and adopted, and where the old catalog is.
    """

    copy: BackupCopy
    seq: int = 0  # the next message has a greater one
    deleted: int = 0
    announced: int = 0
    originals: int = 0
    adopted: int = 0
    root_adopted: bool = False
    aside: str | None = None
    differing: dict[str, str] = field(default_factory=dict)  # were brought back with another size
    refused: dict[str, str] = field(default_factory=dict)
    mended: dict[str, str] = field(
        default_factory=dict
    )  # torn ones: where they are, now that others came back
    mismatched: dict[str, str] = field(default_factory=dict)  # have another size than their ready uploads
    refusals: list[str] = field(default_factory=list)  # why this restore would be refused, after a dry run

    @property
    def is_whole(self) -> bool:
        """Whether each original is as the catalog has it, as far as the backup could help."""
        return not (self.refused or self.differing or self.mismatched)


def choose_copy(place: Path, at: datetime | None, catalog: str | None) -> BackupCopy:
    """The copy at `place`, or the newest one in that folder, made up to then, of `catalog` if it is known.

    Raises: CopyRefused, CopyDamaged, OSError.
    """
    if (place / MANIFEST).is_file():
        copies: Sequence[BackupCopy] = [BackupCopy(place, read_manifest(place))]
    else:
        copies = BackupFolder(place).copies()
    if not copies:
        for manifest in place.glob(f"*/{MANIFEST}"):
            read_manifest(manifest.parent)  # which says why that is none
        raise CopyRefused(f"{place} is no copy, and has none in it")
    found = [copy for copy in copies if at is None or copy.manifest.time <= at]
    if not found:
        oldest = min(copy.manifest.time for copy in copies)
        raise CopyRefused(f"{place} has no copy from before that time: its oldest is of {oldest.isoformat()}")
    ours = [copy for copy in found if catalog in (None, copy.manifest.catalog)]
    if not ours:
        raise CopyRefused(f"{place} has copies of other catalogs alone, and the storage belongs to {catalog}")
    if len({copy.manifest.catalog for copy in ours}) > 1:
        raise CopyRefused(f"{place} has copies of several catalogs: name the copy itself")
    return ours[0]


def copy_before(copy: BackupCopy) -> BackupCopy | None:
    """The newest copy of the same catalog from before that one, in the same folder of copies.

    Raises: OSError.
    """
    for one in BackupFolder(copy.path.parent).copies():
        if one.manifest.catalog == copy.manifest.catalog and one.manifest.time_ms < copy.manifest.time_ms:
            return one
    return None


class LaterMessages:
    """What is told of uploads, by messages or by rows of which no message tells yet: the newest counts."""

    def __init__(self) -> None:
        self._seqs: dict[UUID, int] = {}
        self._states: dict[UUID, LaterState] = {}
        self._owners: Mapping[UUID, str] = {}

    async def read_stream(self, queue: Queue, seq: int) -> None:
        """Read those that apps were sent after that one. Raises: QueueUnavailable."""
        after: str | None = "0"
        while after is not None:
            messages, after = await queue.messages.above(seq, after)
            for message in messages:
                self.add(message)

    async def read_outbox(self, outbox: Outbox, seq: int) -> None:
        """Read those that a catalog keeps after that one, sent or not. Raises: CatalogUnavailable."""
        while page := await outbox.since_in_any_schema(seq):
            for message in page:
                self.add(payload(message))
            seq = page[-1].seq

    async def read_waiting(self, database: Database, since_ms: int) -> None:
        """Read which uploads a catalog has of which no message tells yet, and whose its uploads are.

        Raises: CatalogUnavailable.
        """
        for state in await waiting_since(database, since_ms):
            self._seqs[state.id], self._states[state.id] = _NO_SEQ, state
        self._owners = await owners_since(database, since_ms)

    def add(self, message: Mapping[str, Any]) -> None:
        """Note what one message tells of; what is no message of an upload tells of nothing."""
        try:
            upload_id, source = UUID(str(message["id"])), message["source"]
            if source is not None:
                keys.source_key(str(source))
            kind, seq = message["type"], int(message["seq"])
        except (KeyError, TypeError, ValueError, KeyRefused):
            return
        before = self._states.get(upload_id)
        state = _state(upload_id, kind, source, message)
        if state is None or self._seqs.get(upload_id, -1) > seq:
            return
        if state.source is None and before is not None:
            state = replace(state, source=before.source)
        self._seqs[upload_id], self._states[upload_id] = seq, state

    def states(self) -> Sequence[LaterState]:
        """Each upload as its newest message says, those with the newest ones last."""
        newest_last = sorted(self._states.values(), key=lambda state: self._seqs[state.id])
        return [replace(state, owner=self._owners.get(state.id, state.owner)) for state in newest_last]


@dataclass(frozen=True)
class Known:
    """What is known of the time after a copy: what messages tell, the greatest `seq` that its catalog gave
    (None: nobody says), the other catalogs in whose place it is put, now or by a restore before, and the keys
    of HTTP clients that it had: one that was revoked since must not come back.
    """

    messages: LaterMessages
    seq: int | None
    others: frozenset[str]
    http_keys: Sequence[HttpKey] = ()


def _state(
    upload_id: UUID, kind: object, source: str | None, message: Mapping[str, Any]
) -> LaterState | None:
    match kind:
        case "upload.deleted":
            return LaterState(
                upload_id, deleted=True, source=source, replaced_by=_id(message.get("replaced_by"))
            )
        case "upload.failed" if _was_refused(message):
            return None
        case "upload.ready" | "upload.failed" if isinstance(source, str):
            metadata, recipe = message.get("metadata"), message.get("recipe")
            return LaterState(
                upload_id,
                deleted=False,
                source=source,
                recipe=recipe if isinstance(recipe, str) else None,
                metadata=metadata if isinstance(metadata, dict) else {},
            )
    return None


def _id(said: object) -> UUID | None:
    try:
        return UUID(str(said)) if said else None
    except ValueError:
        return None


def _was_refused(message: Mapping[str, Any]) -> bool:
    """Whether the message answers an event that became nothing."""
    error = message.get("error")
    return isinstance(error, dict) and error.get("code") in _REFUSED


class _OnlyLooked(Exception):
    """Ends a dry run before anything is replaced."""


class Restore:
    """The restore of one copy with these settings, while no worker runs.

    A dry run takes the same steps up to the one at which the catalog is replaced. What would refuse the
    restore is noted in the place of being raised, and nothing that lasts is written.
    """

    def __init__(
        self,
        settings: Settings,
        copy: BackupCopy,
        queue: Queue,
        *,
        adopt_root: bool,
        dry_run: bool = False,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._adopt_root = adopt_root
        self._dry_run = dry_run
        self._catalog_id = copy.manifest.catalog
        self._folder = copy.path.parent
        self._catalog = CatalogRestore(settings.catalog, copy)
        self.done = Restored(copy)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """What the body raises refuses the restore: a dry run notes it, and goes on."""
        try:
            yield
        except (StorageError, QueueUnavailable) as error:
            if not self._dry_run:
                raise
            reason = error.explain() if isinstance(error, QueueUnavailable) else str(error)
            if reason not in self.done.refusals:
                self.done.refusals.append(reason)

    async def _require_no_worker(self) -> None:
        """Raises: CopyRefused while a worker sends heartbeats, QueueUnavailable."""
        if living := len(await self._queue.heartbeats.living()):
            workers = "1 worker" if living == 1 else f"{living} workers"
            raise CopyRefused(
                f"{workers} may still write: stop every worker first. One that was killed counts for "
                f"{EXPIRY_S:.0f} s: wait so long then"
            )

    async def _look(self) -> Known:
        """Read what is known of the time after the copy was made; nothing is written.

        Raises: CopyRefused, CatalogMoved, StreamMismatch where this copy cannot be restored here.
        """
        await self._catalog.check()
        messages, newest = LaterMessages(), self.done.copy.manifest.message
        seq, others, http_keys = None, frozenset[str](), list[HttpKey]()
        async with self._catalog.present() as present:
            if present is not None:
                present_id, others = (await identity(present))[0], await read_replaced(present)
                if present_id == self._catalog_id:
                    seq = await Outbox(present).given_seq()
                    with suppress(CatalogUnavailable):
                        http_keys += await read_keys(present)
                    with suppress(CatalogUnavailable):  # as far as it can be read; Redis has them too
                        await messages.read_outbox(Outbox(present), newest)
                        await messages.read_waiting(
                            present, self.done.copy.manifest.time_ms - _CLOCKS_DIFFER_MS
                        )
                others = (others | {present_id}) - {self._catalog_id}
        known = Known(messages, seq, others, http_keys)
        owner = await self._queue.ownership.owner()
        if not self._may_take_over(owner, known):
            await self._queue.ownership.check_not_of_another(self._catalog_id)
        if owner in (None, self._catalog_id) or self._may_take_over(owner, known):
            await messages.read_stream(self._queue, newest)
        return known

    async def run(self, seen: Callable[[str, int], object]) -> Restored:
        """Restore; `seen` hears of what is done.

        Raises: CopyRefused, CopyDamaged, StorageError, QueueUnavailable; none of them in a dry run.
        """
        with self._refusing():
            await self._require_no_worker()
        with self._refusing():
            async with self._catalog.alone() as replacement:
                with self._refusing():
                    await replacement.check_unused()
                await self._replace(replacement, await self._look(), seen)
        return self.done

    async def _replace(
        self,
        replacement: Replacement,
        known: Known,
        seen: Callable[[str, int], object],
    ) -> None:
        async with self._storage() as blobs, self._files_of_backup() as files:
            owner = await blobs.catalog_id()
            with self._refusing():
                self._check_owner(owner, known)
            moment = datetime.fromtimestamp(await self._queue.stream.now_ms() / 1000, UTC)
            with suppress(_OnlyLooked):
                async with replacement.run(
                    moment.strftime("%Y%m%dT%H%M%S"), self._settings.uploads_per_job, replaced=known.others
                ) as catalog:
                    if owner != self._catalog_id:
                        with self._refusing():
                            await fits(
                                catalog, blobs, files, self._settings.storage, is_marked=owner is not None
                            )
                    await self._raise_seq(catalog, known)
                    await note_newest(catalog, self._folders_of_copies())
                    gone, announced = await self._apply(catalog, blobs, known)
                    with self._refusing():
                        await self._check_room(catalog, blobs, files, gone, announced)
                    await self._mend(catalog, blobs, files, announced, seen)
                    if files is not None:
                        await self._bring_back(catalog, blobs, files, gone, seen)
                    await self._adopt(catalog, blobs, seen)
                    with self._refusing():
                        await self._require_no_worker()  # that was started meanwhile
                    if self._dry_run:
                        raise _OnlyLooked
            if self._dry_run:
                return
            self.done.aside = replacement.aside
            # Last: until the catalog was replaced, its storage and its stream are those of the old one.
            if owner != self._catalog_id:
                await blobs.rebind(self._catalog_id)
                self.done.root_adopted = True
        stream_owner = await self._queue.ownership.owner()
        if self._may_take_over(stream_owner, known):
            await self._queue.ownership.rebind(self._catalog_id, before=stream_owner)

    @asynccontextmanager
    async def _storage(self) -> AsyncIterator[Storage]:
        """The storage, whose folder is made where it may be adopted; to a dry run it is an empty one then."""
        url = self._settings.storage_url
        if not self._dry_run:
            async with open_blobs(url, create=self._adopt_root) as blobs:
                yield blobs
            return
        with self._refusing():
            if not self._adopt_root:
                async with open_blobs(url, create=False):
                    pass
        async with open_target(url, create=False) as blobs:
            yield blobs

    def _may_take_over(self, owner: str | None, known: Known) -> bool:
        """Whether what belongs to that catalog may be given to this one: it is one that is replaced."""
        return self._adopt_root and owner in known.others

    def _check_owner(self, owner: str | None, known: Known) -> None:
        if owner is None and not self._adopt_root:
            raise RootMismatch(
                f"{self._settings.storage} has no {keys.MARKER}, so nobody says that it is this catalog's "
                "storage. If it is, or is to be, say --adopt-root: its files are compared with the copy."
            )
        if owner is not None and not self._may_take_over(owner, known):
            check_owner(owner, self._catalog_id, self._settings.storage)

    def _folders_of_copies(self) -> Sequence[Path]:
        """Where workers make copies, and where this one lies."""
        own = self._settings.backup_folder
        return [self._folder] if own is None else [own, self._folder]

    @asynccontextmanager
    async def _files_of_backup(self) -> AsyncIterator[Versions | None]:
        if not (self._folder / FILES).is_dir():
            yield None
            return
        async with open_versions(self._folder) as files:
            yield files

    async def _raise_seq(self, catalog: Catalog, known: Known) -> None:
        """Number the next message above all that were sent, by what is known of them, or by the clock."""
        least = catalog.database.now_ms() if known.seq is None else known.seq
        await go_on_above(catalog.outbox, self._queue, rebuilt=True, least=least)
        self.done.seq = await catalog.outbox.given_seq()

    async def _apply(
        self, catalog: Catalog, blobs: Storage, known: Known
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Apply what came after the copy; returns the sources deleted and announced then."""
        settings = self._settings
        intake = EventStore(catalog.database, settings.uploads_per_job, settings.domains.all)
        replay = Replay(catalog.database, intake)
        states = list(known.messages.states())
        if known.others:
            states = await _without_adopted(states, catalog)
        told = {state.id for state in states}
        trashed = [one for one in await _trashed(blobs) if one.id not in told]
        states += await replay.deleted_later(trashed)
        await replay.apply(states)
        await catalog.http_keys.take_over(known.http_keys)
        counts = Counter(state.deleted for state in states)
        self.done.deleted, self.done.announced = counts[True], counts[False]
        kept = frozenset(state.source for state in states if state.source and not state.deleted)
        gone = frozenset(
            state.source for state in states if state.deleted and state.source and state.source not in kept
        )
        return gone, kept

    async def _check_room(
        self,
        catalog: Catalog,
        blobs: Storage,
        files: Versions | None,
        gone: frozenset[str],
        announced: frozenset[str],
    ) -> None:
        """Raises: StorageFull where what would come back has no room, before any of it does."""
        space = await blobs.space()
        if space is None or files is None:
            return
        count = size = 0
        async with aclosing(await self._find_torn(catalog, blobs, files, announced, dry_run=True)) as torn:
            async for mended in torn:
                count, size = count + len(mended.mended), size + mended.bytes
        made_ms = self.done.copy.manifest.time_ms
        async with aclosing(give_back(catalog, blobs, files, gone, made_ms, dry_run=True)) as lost:
            async for step in lost:
                count, size = count + step.copied, size + step.bytes
        if size > space.free_bytes or (space.free_files is not None and count > space.free_files):
            files_left = "" if space.free_files is None else f" and {space.free_files} files"
            raise StorageFull(
                f"{self._settings.storage} has no room for what would come back: {count} originals with "
                f"{size} bytes, and {space.free_bytes} bytes{files_left} are free"
            )

    async def _bring_back(
        self,
        catalog: Catalog,
        blobs: Storage,
        files: Versions,
        gone: frozenset[str],
        seen: Callable[[str, int], object],
    ) -> None:
        made_ms = self.done.copy.manifest.time_ms
        returned = give_back(catalog, blobs, files, gone, made_ms, dry_run=self._dry_run)
        async with aclosing(returned) as steps:
            async for step in steps:
                self.done.originals += step.copied
                if self._dry_run and self._settings.adopt == "enqueue":
                    self.done.adopted += step.unknown  # which are not there to be found
                self.done.differing |= step.differing
                self.done.refused |= step.refused
                seen("originals", step.copied + step.same)

    async def _mend(
        self,
        catalog: Catalog,
        blobs: Storage,
        files: Versions | None,
        announced: frozenset[str],
        seen: Callable[[str, int], object],
    ) -> None:
        found = await self._find_torn(catalog, blobs, files, announced, dry_run=self._dry_run)
        async with aclosing(found) as steps:
            async for step in steps:
                self.done.mended |= step.mended
                self.done.mismatched |= step.mismatched
                seen("originals", step.looked)

    async def _find_torn(
        self,
        catalog: Catalog,
        blobs: Storage,
        files: Versions | None,
        announced: frozenset[str],
        *,
        dry_run: bool,
    ) -> AsyncGenerator[MendStep, None]:
        """The torn originals, mended unless it is a `dry_run`."""
        folder = keys.restore_folder(uuid4())
        settled = await self._queue.stream.now_ms() / 1000 - self._settings.settle
        later = {**dict.fromkeys(announced), **await self._expected_later(announced)}
        return mend(catalog.sources, blobs, files, later, folder, settled, dry_run=dry_run)

    async def _expected_later(self, announced: frozenset[str]) -> Mapping[str, Expected]:
        """What the catalog that is replaced expects of these originals, as far as it can be read."""
        async with self._catalog.present() as present:
            with suppress(StorageError):
                if present is not None:
                    return await Sources(present).expected(announced)
        return {}

    async def _adopt(self, catalog: Catalog, blobs: Storage, seen: Callable[[str, int], object]) -> None:
        """Take in what lies there without a row, before a sweep may look at its variants."""
        if self._settings.adopt != "enqueue":
            return
        await catalog.checkpoint(REBUILD).save(Listing())
        adoption = Adoption(blobs, catalog, grace_s=0, name=REBUILD)
        async for page in adoption.look() if self._dry_run else adoption.run():
            self.done.adopted += len(page.unknown)
            seen("originals", page.names)


async def _without_adopted(states: Sequence[LaterState], catalog: Catalog) -> list[LaterState]:
    """Without what a catalog that was rebuilt meanwhile has told of originals that are known otherwise."""
    adopted = {one.id: one.source for one in states if one.source and one.id == default_id(one.source)}
    known = {one.source for one in states if one.id not in adopted}
    known |= await catalog.sources.known([source for source in adopted.values() if source])
    return [one for one in states if one.id not in adopted or adopted[one.id] not in known]


async def _trashed(blobs: Storage) -> Sequence[Trashed]:
    """The originals of deleted uploads in the trash, which are not back in their place."""
    found: dict[str, Trashed] = {}
    async with aclosing(blobs.list(keys.TRASH)) as pages:
        async for page in pages:
            for key in page:
                if (one := _parse(key)) is not None:
                    found[key] = one
    sources = sorted({one.source for one in found.values()})
    gone: set[str] = set()
    for start in range(0, len(sources), _GROUP):
        there = await blobs.stat(sources[start : start + _GROUP])
        gone |= {source for source, seen in there.items() if seen is Existence.MISSING}
    return [one for one in found.values() if one.source in gone]


def _parse(key: str) -> Trashed | None:
    folder = keys.trash_folder(key)
    source = key.removeprefix(f"{keys.TRASH}/{folder}/")
    with suppress(ValueError):
        upload_id, _, claim = folder.removeprefix("delete-").rpartition("-")
        if keys.is_deletion_folder(folder) and source.startswith(f"{keys.UPLOADS}/"):
            return Trashed(UUID(upload_id), source, int(claim))
    return None
