"""A catalog is replaced by a copy: the copy is made ready beside it, then takes its place at once."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from storage.backups.folder import BackupCopy
from storage.catalog import schema
from storage.catalog.address import SQLITE, Address
from storage.catalog.copies import ROWS
from storage.catalog.database import Database, open_to_read
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.outbox import Outbox
from storage.durable import writes_copies
from storage.errors import CatalogMoved, CopyRefused, StorageError
from storage.threads import in_thread


class CatalogRestore:
    """The restore of `copy` as the catalog at `where`; the one that is there is kept."""

    def __init__(self, where: Address, copy: BackupCopy) -> None:
        self._where = where
        self._copy = copy
        self.aside: str | None = None
        """Where the old one is, once it was replaced; None: there was none."""

    def check(self) -> None:
        """Raises: CopyRefused where this program cannot make a catalog there of the copy."""
        manifest = self._copy.manifest
        if manifest.schema not in schema.SCHEMAS:
            raise CopyRefused(
                f"the copy {self._copy.path} has the schema {manifest.schema}, and this program knows none "
                f"after {schema.newest()}: install the version {manifest.version} or a newer one"
            )
        if (manifest.file != ROWS) != self._where.is_file:
            kind, other = ("Postgres", "SQLite") if manifest.file == ROWS else ("SQLite", "Postgres")
            raise CopyRefused(
                f"the copy {self._copy.path} is of a catalog in {kind}: set MEDIA_CATALOG_URL to one there; "
                f"media migrate-catalog moves it to {other} afterwards"
            )
        if self._where.pooler:
            raise CopyRefused("a restore needs a connection to Postgres itself: set MEDIA_CATALOG_POOLER=0")

    @asynccontextmanager
    async def present(self) -> AsyncIterator[Database | None]:
        """The catalog that is to be replaced, of whatever schema; None where there is none that can be read.

        Raises: CatalogMoved where there is another one, which is used.
        """
        async with AsyncExitStack() as stack:
            present = None
            try:
                present = await stack.enter_async_context(open_to_read(self._where))
                await Outbox(present).given_seq()
            except CatalogMoved:
                raise
            except StorageError:
                present = None
            yield present

    @asynccontextmanager
    async def run(self, moment: str, uploads_per_job: int) -> AsyncIterator[Catalog]:
        """The catalog of the copy, to be made ready in the body; after it, it takes the place of the old one.

        That is kept under a name with the `moment`. If the body fails or the process dies, it stays as it is.

        Raises: CopyRefused, CopyDamaged, CatalogUnavailable, also while another process has the old one open.
        """
        restored = self._in_file if self._where.is_file else self._in_database
        async with restored(moment, uploads_per_job) as catalog:
            yield catalog

    @asynccontextmanager
    async def _in_file(self, moment: str, uploads_per_job: int) -> AsyncIterator[Catalog]:
        from storage.catalog import sqlite_restore

        path = self._where.path.absolute().resolve()
        candidate = await in_thread(sqlite_restore.begin, path, self._copy.file)
        try:
            async with open_catalog(
                f"{SQLITE}{candidate}", create=False, migrate=True, uploads_per_job=uploads_per_job
            ) as catalog:
                yield catalog
            aside = path.with_name(f"{path.name}.before-restore-{moment}")
            with writes_copies(path.parent):
                await in_thread(sqlite_restore.finish, candidate)
                was_there = path.exists()
                await in_thread(sqlite_restore.replace, path, candidate, aside)
            self.aside = str(aside) if was_there else None
        finally:
            await in_thread(sqlite_restore.discard, candidate)

    @asynccontextmanager
    async def _in_database(self, moment: str, uploads_per_job: int) -> AsyncIterator[Catalog]:
        from storage.catalog import postgres_restore
        from storage.catalog.postgres import PostgresBackend
        from storage.catalog.postgres_copy import RowsFile

        manifest, backend = self._copy.manifest, PostgresBackend(self._where)
        beside = replace(self._where, schema=postgres_restore.CANDIDATE)
        try:
            with backend.condition.watched():
                async with backend.migrating() as connection:
                    await postgres_restore.make_schema(connection)
            filled = PostgresBackend(beside)
            try:
                with filled.condition.watched():
                    async with filled.migrating() as connection:
                        await postgres_restore.fill(
                            connection,
                            RowsFile(self._copy.file),
                            manifest.schema,
                            manifest.rows,
                            str(filled.counted),
                        )
                        await filled.give_numbers_above_rows(connection)
                        await filled.give_above(connection, manifest.seq)
            finally:
                await filled.close()
            async with open_catalog(
                beside, create=False, migrate=True, uploads_per_job=uploads_per_job
            ) as catalog:
                yield catalog
            aside = f"media_before_restore_{moment.lower()}"
            with backend.condition.watched():
                async with backend.migrating() as connection:
                    if await postgres_restore.replace(connection, aside):
                        self.aside = f"the schema {aside} of {self._where}"
        finally:
            await backend.close()
