"""A catalog is replaced by a copy: the copy is made ready beside it, then takes its place at once."""

from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

from storage.backups.folder import BackupCopy
from storage.catalog import schema
from storage.catalog.address import SQLITE, Address
from storage.catalog.copies import ROWS
from storage.catalog.database import Database, open_to_read
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.outbox import Outbox
from storage.catalog.restored import mark_restored
from storage.errors import CatalogMoved, CopyRefused, StorageError, writes_copies
from storage.threads import in_thread

if TYPE_CHECKING:
    from storage.catalog.postgres import PostgresBackend
    from storage.catalog.sqlalchemy_parts import AsyncConnection


class Replacement(Protocol):
    """The right to put a copy in the place of a catalog, which nobody else has meanwhile."""

    aside: str | None
    """Where the old one is, once it was replaced; None: there was none."""

    async def check_unused(self) -> None:
        """Raises: CatalogUnavailable while another process has the old one open, as far as that is seen."""

    def run(
        self, moment: str, uploads_per_job: int, *, replaced: Collection[str] = ()
    ) -> AbstractAsyncContextManager[Catalog]:
        """The catalog of the copy, to be made ready in the body; after it, it takes the place of the old one.

        That is kept under a name with the `moment`. If the body fails or the process dies, it stays as it is.
        The new one remembers in the place of which others it is (`read_replaced`).

        Raises: CopyRefused, CopyDamaged, CatalogUnavailable, also while another process has the old one open.
        """


class CatalogRestore:
    """The restore of `copy` as the catalog at `where`; the one that is there is kept."""

    def __init__(self, where: Address, copy: BackupCopy) -> None:
        self._where = where
        self._copy = copy

    async def check(self) -> None:
        """Raises: CopyRefused where this program can make no catalog of the copy, CatalogUnavailable."""
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
        if not self._where.is_file:
            from storage.catalog import postgres_restore
            from storage.catalog.postgres_functions import find_left

            async with _connected(self._where) as backend:
                with backend.condition.watched():
                    async with backend.reading() as connection:
                        await postgres_restore.check_rights(connection, str(self._where))
                        await find_left(connection, str(self._where))

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
    async def alone(self) -> AsyncIterator[Replacement]:
        """Keep every other restore of this catalog out, on Postgres until it has been replaced.

        Raises: CopyRefused while there is another one, CatalogUnavailable.
        """
        if self._where.is_file:
            from storage.catalog import sqlite_restore

            path = self._where.path.absolute().resolve()
            with sqlite_restore.alone(path):
                yield _FileReplacement(Address(f"{SQLITE}{path}"), self._copy)
            return
        from storage.catalog import postgres_restore

        async with AsyncExitStack() as stack:
            backend = await stack.enter_async_context(_connected(self._where))
            with backend.condition.watched():
                async with backend.reading() as connection:
                    place = await postgres_restore.place_of(connection)
                transaction = await stack.enter_async_context(backend.alone(f"restore:{place}"))
            if transaction is None:
                raise CopyRefused(
                    f"another restore of the catalog {self._where} is at work: wait until it has ended"
                )
            yield _ServerReplacement(self._where, self._copy, backend, transaction, place)


class _FileReplacement:
    def __init__(self, where: Address, copy: BackupCopy) -> None:
        self._where = where
        self._copy = copy
        self.aside: str | None = None

    async def check_unused(self) -> None:
        from storage.catalog import sqlite_restore

        await in_thread(sqlite_restore.check_unused, self._where.path)

    @asynccontextmanager
    async def run(
        self, moment: str, uploads_per_job: int, *, replaced: Collection[str] = ()
    ) -> AsyncIterator[Catalog]:
        from storage.catalog import sqlite_restore

        path, nonce = self._where.path, token_hex(8)
        candidate = await in_thread(sqlite_restore.begin, path, self._copy.file)
        try:
            async with open_catalog(
                f"{SQLITE}{candidate}", create=False, migrate=True, uploads_per_job=uploads_per_job
            ) as catalog:
                yield catalog
                await mark_restored(catalog.database, nonce, replaced)
            with writes_copies(path.parent):
                await in_thread(sqlite_restore.finish, candidate, nonce)
                aside = await in_thread(sqlite_restore.replace, path, candidate, moment)
            self.aside = None if aside is None else str(aside)
        finally:
            await in_thread(sqlite_restore.discard, candidate)


class _ServerReplacement:
    """With the `transaction` in which it is alone: what that commits, nobody else has got in the way of."""

    def __init__(
        self,
        where: Address,
        copy: BackupCopy,
        backend: "PostgresBackend",
        transaction: "AsyncConnection",
        place: str,
    ) -> None:
        self._where = where
        self._copy = copy
        self._backend = backend
        self._transaction = transaction
        self._place = place
        self.aside: str | None = None

    async def check_unused(self) -> None:
        """The server has who uses it wait for the exchange."""

    @asynccontextmanager
    async def run(
        self, moment: str, uploads_per_job: int, *, replaced: Collection[str] = ()
    ) -> AsyncIterator[Catalog]:
        from storage.catalog import postgres_restore

        nonce = token_hex(8)
        beside = replace(self._where, schema=postgres_restore.name_candidate(self._place, nonce))
        try:
            await self._fill(beside)
            async with open_catalog(
                beside, create=False, migrate=True, uploads_per_job=uploads_per_job
            ) as catalog:
                yield catalog
                await mark_restored(catalog.database, nonce, replaced)
            with self._backend.condition.watched():
                await self._backend.keep_tables(self._transaction)
                aside = await postgres_restore.replace(
                    self._transaction, str(self._where), beside.schema, nonce, moment
                )
                await self._transaction.commit()
        except BaseException:
            with suppress(StorageError):
                await self._discard(beside)
            raise
        self.aside = None if aside is None else f"the schema {aside} of {self._where}"

    async def _fill(self, beside: Address) -> None:
        from storage.catalog import postgres_restore
        from storage.catalog.postgres_copy import RowsFile

        manifest, rows = self._copy.manifest, RowsFile(self._copy.file)
        async with _connected(beside) as filled:
            with filled.condition.watched():
                async with filled.migrating() as connection:
                    await postgres_restore.make_schema(connection, self._place, beside.schema)
                    await postgres_restore.fill(
                        connection, rows, manifest.schema, manifest.rows, str(filled.counted)
                    )
                    await filled.give_numbers_above_rows(connection)
                    await filled.give_above(connection, manifest.seq)

    async def _discard(self, beside: Address) -> None:
        from storage.catalog import postgres_restore

        async with _connected(beside) as filled:
            with filled.condition.watched():
                await self._transaction.rollback()  # which may wait for none that waits for it
                async with filled.migrating() as connection:
                    await postgres_restore.drop_schema(connection, beside.schema)


@asynccontextmanager
async def _connected(where: Address) -> AsyncIterator["PostgresBackend"]:
    from storage.catalog.postgres import PostgresBackend

    backend = PostgresBackend(where)
    try:
        yield backend
    finally:
        await backend.close()
