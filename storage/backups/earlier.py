"""The copy from before a migration: beside the catalog's file, or in a folder of copies."""

from datetime import UTC, datetime
from pathlib import Path

from storage.backups.folder import BackupCopy, BackupFolder, hash_of
from storage.backups.manifest import Manifest
from storage.catalog import schema
from storage.catalog.address import Address
from storage.catalog.copies import read_copy
from storage.catalog.copying import path_before
from storage.catalog.database import identity, open_to_read, schema_of
from storage.errors import CopyRefused
from storage.threads import cancellation, in_thread


async def earlier_copy(where: Address, folder: Path | None) -> BackupCopy:
    """The newest copy of the catalog there of a schema that this program knows, where that one is newer.

    Raises: NoCatalog, CatalogUnavailable, CopyRefused where there is nothing to go back from or to.
    """
    async with open_to_read(where) as present:
        found, catalog = await schema_of(present), (await identity(present))[0]
    if found in schema.SCHEMAS:
        raise CopyRefused(
            f"the catalog's schema is {found}, which this program knows: there is nothing to go back from. "
            "Run this with the version that is to be gone back to"
        )
    if where.is_file:
        beside = path_before(where.path.absolute().resolve(), found)
        if beside.exists():
            return await _read(beside)
    copies = BackupFolder(folder).copies() if folder is not None else []
    for copy in copies:
        if copy.manifest.catalog == catalog and copy.manifest.schema in schema.SCHEMAS:
            return copy
    raise CopyRefused(
        f"there is no copy from before the schema {found}, neither beside the catalog nor in the folder "
        "MEDIA_BACKUP: install the newer version again"
    )


async def _read(path: Path) -> BackupCopy:
    copy = await read_copy(path)
    size, sha256 = await in_thread(hash_of, path, cancellation())
    made = int(datetime.fromtimestamp(path.stat().st_mtime, UTC).timestamp() * 1000)
    manifest = Manifest.of(copy, time_ms=made, size=size, sha256=sha256, version="")
    return BackupCopy(path.parent, manifest)
