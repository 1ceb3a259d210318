"""How a copy is made and checked: the catalog, its manifest, and the root's marker."""

from storage.backups.folder import BackupCopy, BackupFolder, hash_of
from storage.backups.manifest import MANIFEST, Manifest, dump_manifest
from storage.blobs.marker import marker_of
from storage.catalog.copies import copy_catalog, examine_copy
from storage.catalog.database import Database
from storage.durable import write_durably
from storage.errors import CopyDamaged, writes_copies
from storage.keys import MARKER
from storage.threads import cancellation, in_thread


async def make_copy(database: Database, folder: BackupFolder, version: str) -> BackupCopy:
    """Make a copy in that folder, which the caller has to itself, while workers go on; it was checked.

    Raises: CopyRefused, CatalogUnavailable, CatalogDamaged.
    """
    time_ms = database.now_ms()
    with folder.unfinished() as unfinished:
        copy = await copy_catalog(database, unfinished)
        with writes_copies(folder.path):
            size, sha256 = await in_thread(hash_of, unfinished / copy.file, cancellation())
            manifest = Manifest.of(copy, time_ms=time_ms, size=size, sha256=sha256, version=version)
            write_durably(unfinished / MARKER, marker_of(manifest.catalog))
            write_durably(unfinished / MANIFEST, dump_manifest(manifest))
        made = BackupCopy(unfinished, manifest)
        await _compare_rows(made)
        return BackupCopy(folder.publish(unfinished, manifest.time), manifest)


async def check_copy(copy: BackupCopy) -> None:
    """Read all of a copy. Raises: CopyDamaged, OSError."""
    await in_thread(copy.check_bytes, cancellation())
    await _compare_rows(copy)


async def _compare_rows(copy: BackupCopy) -> None:
    if dict(await examine_copy(copy.file)) != dict(copy.manifest.rows):
        raise CopyDamaged(f"the copy {copy.path} is damaged: it has other numbers of rows than its manifest")
