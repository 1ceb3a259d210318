"""Backups as a worker and a command make them: a copy of the catalog, its note, and what goes for it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.keep import Keep
from storage.backups.making import check_apart, make_copy
from storage.backups.originals import add_originals
from storage.blobs.copying import CopyStep
from storage.blobs.opening import open_blobs
from storage.catalog.backup_notes import BackupMade, BackupNotes
from storage.catalog.database import Database, identity
from worker.settings import Settings


@dataclass(frozen=True)
class Backup:
    """A copy that was made, and the names of those that were removed since it is there."""

    copy: BackupCopy
    pruned: tuple[str, ...] = ()


def check_folder(settings: Settings, folder: Path) -> None:
    """Raises: CopyRefused where no copies can be in that folder."""
    check_apart(folder, settings.storage_url, settings.catalog_path if settings.catalog.is_file else None)


async def back_up(database: Database, folder: BackupFolder, keep: Keep | None) -> Backup:
    """Make a copy in the folder, which the caller has to itself, and remove those beyond `keep`.

    Raises: CopyRefused, CatalogUnavailable, CatalogDamaged.
    """
    copy = await make_copy(database, folder, version("media-worker"))
    manifest = copy.manifest
    made = BackupMade(manifest.time_ms, str(folder.path), copy.path.name, manifest.bytes, manifest.seq)
    await BackupNotes(database).note(made)
    return Backup(copy, tuple(folder.prune(manifest.catalog, keep)) if keep else ())


async def back_up_originals(
    settings: Settings, database: Database, folder: BackupFolder
) -> AsyncGenerator[CopyStep, None]:
    """Add the originals that the folder lacks; yields step by step.

    Raises: CopyRefused, BlobsUnavailable, RootMismatch.
    """
    catalog = (await identity(database))[0]
    async with open_blobs(settings.storage_url, create=False) as blobs:
        await blobs.bind(catalog, catalog_is_new=False)
        async for step in add_originals(blobs, folder.path, catalog):
            yield step
