"""Backups as a worker and a command make them: a copy of the catalog, its note, and what goes for it."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import structlog

from storage.backups.comparing import find_differing
from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.keep import Keep
from storage.backups.making import check_copy, make_copy
from storage.backups.originals import add_originals
from storage.backups.places import check_apart
from storage.backups.versions import open_versions
from storage.blobs.copying import CopyStep
from storage.blobs.opening import open_blobs
from storage.catalog.backup_notes import BackupChecked, BackupFailed, BackupMade, BackupNotes
from storage.catalog.clock import SKEW_MS
from storage.catalog.database import Database, identity, open_to_read, pending_migration
from storage.catalog.opening import Catalog
from storage.catalog.sources import Sources
from storage.errors import CopyBusy, CopyDamaged, NoCatalog, StorageError, writes_copies
from worker.settings import Settings

log = structlog.get_logger(__name__)

CHECKED_AFTER_MS = 23 * 3600 * 1000  # once a day, where copies are hourly


@dataclass(frozen=True)
class Backup:
    """A copy that was made, and the names of those that were removed since it is there."""

    copy: BackupCopy
    pruned: tuple[str, ...] = ()


def check_folder(settings: Settings, folder: Path) -> None:
    """Raises: CopyRefused where no copies can be in that folder."""
    check_apart(folder, settings.storage_url, settings.catalog_path if settings.catalog.is_file else None)


def is_expected_in(settings: Settings, folder: Path) -> bool:
    """Whether a copy in that folder is what workers wait for; where they make none any copy is."""
    return settings.backup_folder is None or _is_one(settings.backup_folder, folder)


def _is_one(folder: Path, other: Path) -> bool:
    return folder.resolve() == other.resolve()


async def back_up(
    database: Database, folder: BackupFolder, keep: Keep | None, *, noted: bool = True
) -> Backup:
    """Make a copy in the folder, which the caller has to itself, and remove those beyond `keep`.

    Where it is `noted`, it is the newest one to workers, who make none for the same hour.

    Raises: CopyRefused, CatalogUnavailable, CatalogDamaged.
    """
    copy = await make_copy(database, folder, version("media-worker"))
    manifest = copy.manifest
    made = BackupMade(manifest.time_ms, str(folder.path), copy.path.name, manifest.bytes, manifest.seq)
    if noted:
        await BackupNotes(database).note(made)
    return Backup(copy, tuple(folder.prune(copy, keep)) if keep else ())


async def note_newest(catalog: Catalog, folders: Sequence[Path]) -> None:
    """Note the newest copy in the first of the folders that has one of this catalog, which was a copy itself.

    What that says of copies ends before it was made. Raises: CatalogUnavailable.
    """
    for path in folders:
        folder = BackupFolder(path, _log_problem)
        with suppress(OSError):
            if copy := _newest(folder, catalog.id, catalog.database.now_ms()):
                manifest = copy.manifest
                await BackupNotes(catalog.database).note(
                    BackupMade(manifest.time_ms, str(path), copy.path.name, manifest.bytes, manifest.seq)
                )
                return


async def copy_before_migration(settings: Settings) -> BackupCopy | None:
    """Make a copy of a catalog on a server that is about to be migrated, in the folder of the settings.

    None where that is not so, where there is no such folder, and for a file, beside which one is kept anyway.

    Raises: CopyRefused, CatalogUnavailable, CatalogTooNew.
    """
    if settings.catalog.is_file or settings.backup_folder is None:
        return None
    with suppress(NoCatalog):
        async with open_to_read(settings.catalog) as database:
            if not await pending_migration(database):
                return None
            folder = BackupFolder(settings.backup_folder, _log_problem)
            check_folder(settings, folder.path)
            with folder.alone():
                return (await back_up(database, folder, None)).copy
    return None


async def back_up_by_itself(settings: Settings, catalog: Catalog, *, since_ms: int) -> None:
    """Make a copy in the folder of the settings, unless there is one since then; once a day, check the last.

    One copy that is bad or cannot be read keeps no other from being made, and a check none from being kept.

    Raises: CopyRefused, CatalogUnavailable, CatalogDamaged.
    """
    if settings.backup_folder is None:
        log.warning("backup_not_here", reason="MEDIA_BACKUP is not set here, but for another worker")
        return
    notes, began = BackupNotes(catalog.database), time.monotonic()
    made = await notes.last()
    now = catalog.database.now_ms()
    folder = BackupFolder(settings.backup_folder, _log_problem)
    is_recent = made is not None and since_ms <= made.time_ms <= now + SKEW_MS
    if made is not None and is_recent and _is_one(folder.path, Path(made.folder)):
        return
    check_folder(settings, folder.path)
    with writes_copies(folder.path), folder.alone():
        earlier = _newest(folder, catalog.id, now)
        made_now = (await back_up(catalog.database, folder, None)).copy
        if earlier is not None:  # before it may be pruned; what was just made has just been read
            await _check(earlier, folder, notes, now)
        done = Backup(made_now, tuple(folder.prune(made_now, settings.kept_copies)))
    manifest, seconds = done.copy.manifest, round(time.monotonic() - began, 1)
    log.info(
        "backup_made",
        copy=str(done.copy.path),
        uploads=sum(manifest.uploads.values()),
        bytes=manifest.bytes,
        removed=len(done.pruned),
        seconds=seconds,
    )
    if manifest.wrong_totals:
        log.warning("totals_wrong", count=manifest.wrong_totals)


async def note_failure(catalog: Catalog, error: Exception) -> None:
    """Log why no copy was made, and have the catalog remember it until one is.

    That somebody else makes one just now is no failure: theirs is as good.
    """
    log.error("backup_failed", reason=str(error))
    if isinstance(error, CopyBusy):
        return
    with suppress(StorageError):  # a catalog that is away is a problem of its own
        failed = BackupFailed(catalog.database.now_ms(), str(error))
        await BackupNotes(catalog.database).note_failure(failed)


def _log_problem(path: Path, error: OSError) -> None:
    log.warning("backup_unreadable", copy=str(path), reason=error.strerror or str(error))


def _newest(folder: BackupFolder, catalog: str, now: int) -> BackupCopy | None:
    """The newest copy of that catalog, without those of a clock that ran ahead. Raises: OSError."""
    manifests = ((copy, copy.manifest) for copy in folder.copies())
    ours = (copy for copy, said in manifests if said.catalog == catalog and said.time_ms <= now + SKEW_MS)
    return next(ours, None)


async def _check(copy: BackupCopy, folder: BackupFolder, notes: BackupNotes, now: int) -> None:
    """Read a copy, if none was for a day; one that is damaged counts as none from then on."""
    checked = await notes.checked()
    if checked is not None and abs(now - checked.time_ms) < CHECKED_AFTER_MS:
        return
    problem = None
    try:
        await check_copy(copy)
        log.info("backup_checked", copy=str(copy.path))
    except CopyDamaged as error:
        problem = str(error)
        log.error("backup_damaged", reason=problem, kept=str(folder.set_aside(copy)))  # noqa: TRY400
    except (OSError, StorageError) as error:  # of its disk, perhaps only for now: it keeps its name
        problem = f"the copy {copy.path} cannot be read ({getattr(error, 'strerror', None) or error})"
        log.error("backup_unreadable", reason=problem)  # noqa: TRY400
    await notes.note_check(BackupChecked(now, copy.path.name, problem))


async def back_up_originals(
    settings: Settings, database: Database, folder: BackupFolder
) -> AsyncGenerator[CopyStep, None]:
    """Add the originals that the folder lacks; yields step by step.

    Raises: CopyRefused, BlobsUnavailable, RootMismatch.
    """
    catalog = (await identity(database))[0]
    async with open_blobs(settings.storage_url, create=False) as blobs:
        await blobs.bind(catalog, catalog_is_new=False)
        async for step in add_originals(blobs, folder.path, catalog, database.now_ms):
            yield step


async def compare_originals(
    settings: Settings, database: Database, folder: BackupFolder
) -> AsyncGenerator[Mapping[str, str], None]:
    """Say what is wrong with originals of ready uploads that are gone, or have another size; page by page.

    Raises: BlobsUnavailable, RootMismatch, CatalogUnavailable.
    """
    async with (
        open_blobs(settings.storage_url, create=False) as blobs,
        open_versions(folder.path) as versions,
        aclosing(find_differing(Sources(database), blobs, versions, database.now_ms())) as found,
    ):
        async for page in found:
            yield page
