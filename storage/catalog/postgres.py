"""A catalog in Postgres: its engine, its transactions and its statements."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Table, bindparam, event, insert, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from storage.catalog import postgres_functions, postgres_seal, postgres_seq, schema
from storage.catalog.address import Address
from storage.catalog.copies import ROWS
from storage.catalog.expressions import owner_of, place_of, upload_of
from storage.catalog.kv import each_of, field_of
from storage.catalog.postgres_copy import write_rows
from storage.catalog.postgres_errors import READ_ONLY, ServerCondition, sqlstate
from storage.catalog.reading_queries import rows_as_json, unindexed
from storage.catalog.server_clock import ServerClock
from storage.catalog.servers import Servers
from storage.catalog.sqlalchemy_parts import AsyncConnection, AsyncEngine, create_async_engine
from storage.catalog.sqlite_file import FileRoom
from storage.catalog.tables import metadata, totals_delta
from storage.errors import CatalogUnfit

T = TypeVar("T")

COMMAND_S = 30.0
WAIT_S = 10.0  # for a connection of the pool
DAMAGE_KEPT_S = 300.0
OLDEST = 13
# Of a transaction whose host is cut off, which the server does not notice: between two of its statements, and
# as a whole, for it may have got half of what was sent, and waits for the rest.
IDLE_S = 10.0
TRANSACTION_S = 30.0  # from PostgreSQL 17 on
RECYCLE_S = 1800
for _table in metadata.tables.values():
    for _index in _table.indexes:
        _index.dialect_options["postgresql"]["where"] = _index.dialect_options["sqlite"]["where"]
_KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
_MIGRATION = "migration"
_TOTALS = "totals"

_SHARE = text("SELECT pg_advisory_xact_lock_shared(:lock)").bindparams(bindparam("lock", type_=BigInteger))
_EXCLUDE = text("SELECT pg_advisory_xact_lock(:lock)").bindparams(bindparam("lock", type_=BigInteger))
_TRY = text("SELECT pg_try_advisory_xact_lock(:lock)").bindparams(bindparam("lock", type_=BigInteger))
_SEQUENCE = "outbox_seq_seq"
_PROPERTIES = text(f"""
    SELECT CAST(current_setting('server_version_num') AS integer), current_setting('server_encoding'),
        (SELECT seqcache FROM pg_sequence WHERE seqrelid = to_regclass('{_SEQUENCE}'))
""")  # noqa: S608 (our own name)

_COUNTED = text("""
    SELECT 'upload', CASE WHEN state IN ('queued', 'processing') THEN 'waiting' ELSE state END,
        coalesce(error_code, ''), 0, count(*), 0 FROM uploads GROUP BY 2, 3
    UNION ALL
    SELECT 'original', coalesce(format, ''), '', 0, count(*), CAST(sum(bytes) AS bigint)
    FROM uploads WHERE bytes IS NOT NULL GROUP BY 2
    UNION ALL
    SELECT CASE WHEN superseded_ms IS NULL THEN 'variant' ELSE 'superseded' END, name,
        substr(key, strpos(key, '.') + 1), made_ms / 86400000, count(*), CAST(sum(bytes) AS bigint)
    FROM variants GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT 'dead_letter', code, '', 0, count(*), CAST(sum(length(body)) AS bigint)
    FROM dead_letters GROUP BY 2
""")

# Where rows of one place were added, one row is left, or none where they come to nothing.
_FOLD = text("""
    WITH several AS (
        SELECT what, name, detail, day FROM totals_delta GROUP BY what, name, detail, day HAVING count(*) > 1
    ), folded AS (
        DELETE FROM totals_delta AS one USING several
        WHERE (one.what, one.name, one.detail, one.day)
            = (several.what, several.name, several.detail, several.day)
        RETURNING one.*
    )
    INSERT INTO totals_delta
    SELECT what, name, detail, day, CAST(sum(files) AS bigint), CAST(sum(bytes) AS bigint) FROM folded
    GROUP BY what, name, detail, day HAVING sum(files) <> 0 OR sum(bytes) <> 0
""")


_FOR_NUL = "\N{REPLACEMENT CHARACTER}"  # Postgres takes NUL in no text
_NUMBERED = {"uploads": "number", "outbox": "seq", "dead_letters": "id"}


@compiles(field_of, "postgresql")
def _field_of(element: field_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    value, name = (compiler.process(part, **options) for part in element.clauses)
    # In whatever order the conditions of a query are tried, a value that is no JSON is not read as such.
    return f"(CASE WHEN {value} LIKE '{{%%' THEN CAST({value} AS json) ->> {name} END)"


@compiles(owner_of, "postgresql")
def _owner_of(element: owner_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    *named, source = (compiler.process(part, **options) for part in element.clauses)
    below = f"substr({source}, 9)"  # behind `uploads/`
    return f"coalesce({', '.join(named)}, substr({source}, 9, greatest(strpos({below}, '/') - 1, 0)), '')"


@compiles(upload_of, "postgresql")
def _upload_of(element: upload_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    body = compiler.process(element.clauses, **options)
    return f'substr({body}, strpos(substr({body}, 1, 40), \',"id":"\') + 7, 36)'


@compiles(place_of, "postgresql")
def _place_of(element: place_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(rows_as_json, "postgresql")
def _rows_as_json(element: rows_as_json, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return f"CAST(json_agg(json_build_array({compiler.process(element.clauses, **options)})) AS text)"


@compiles(unindexed, "postgresql")
def _unindexed(element: unindexed, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return compiler.process(element.clauses, **options)


@compiles(each_of, "postgresql")
def _each_of(element: each_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return f"json_array_elements_text(CAST({compiler.process(element.clauses, **options)} AS json))"


@compiles(schema.is_table, "postgresql")
def _is_table(element: schema.is_table, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    # `to_regclass` may go by what the connection remembers of the time before it waited for a migration.
    name = compiler.process(element.clauses, **options)
    visible = "schemaname = ANY (current_schemas(false))"
    return f"(SELECT count(*) > 0 FROM pg_catalog.pg_tables WHERE tablename = {name} AND {visible})"  # noqa: S608


class PostgresBackend:
    """Readers and writers side by side, each transaction on a connection of the pool."""

    counted = _COUNTED
    locks_rows = True
    joins_laterally = True
    clock_error_ms = 5000  # far more than half a round trip: too much costs one more publish
    adding = insert(totals_delta)
    migrated_by = (
        "make a copy (media backup DIR); then media migrate, or the next start of a worker of this version, "
        "makes it"
    )

    def __init__(self, address: Address) -> None:
        self.condition = ServerCondition(address.name)
        self._address = address
        self.pool = address.pool
        self._clock = ServerClock()
        self._servers = Servers(address)
        self.engine = _new_engine(
            address,
            self._servers,
            pool_size=address.pool,
            max_overflow=0,
            pool_timeout=WAIT_S,
            pool_recycle=RECYCLE_S,
            pool_use_lifo=True,
        )
        event.listen(self.engine.sync_engine, "handle_error", _leave_replica)
        self._return = postgres_seq.Return(self.condition, self.engine)

    async def exists(self) -> bool:
        """Whether our tables are there. Raises: CatalogUnavailable, CatalogUnfit."""
        with self.condition.watched():
            async with self.reading() as connection:
                self._check_fit(*(await connection.execute(_PROPERTIES)).one())
                return await connection.run_sync(schema.read) is not None

    def _check_fit(self, version: int, encoding: str, cached: int | None) -> None:
        name = self.condition.name
        if version < OLDEST * 10_000:
            raise CatalogUnfit(
                f"the catalog {name} is on PostgreSQL {version // 10_000}; {OLDEST} is the oldest"
            )
        if encoding != "UTF8":
            raise CatalogUnfit(
                f"the database of the catalog {name} has the encoding {encoding}, which cannot hold every "
                "name: create one with ENCODING 'UTF8' TEMPLATE template0"
            )
        if cached is not None and cached > 1:
            raise CatalogUnfit(
                f"the catalog {name} gives the numbers of messages out of order, because each connection "
                f"takes {cached} at once: ALTER SEQUENCE {_SEQUENCE} CACHE 1"
            )

    async def prepare(self) -> None:
        """Nothing: the database is its operator's to make."""

    @asynccontextmanager
    async def reading(self, *, patient: bool = False, inline: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one moment of the catalog, however many statements it has."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin(), _unhurried(connection) if patient else nullcontext():
                await self._clock.keep_right(connection)
                yield connection

    @asynccontextmanager
    async def writing(self, *, inline: bool, relaxed_durability: bool) -> AsyncIterator[AsyncConnection]:
        """A transaction of many that write at the same time."""
        await self._return.before_writing()
        async with self.engine.connect() as connection:
            await connection.execution_options(writes=True)
            async with connection.begin():
                await self._clock.keep_right(connection)
                if self._address.pooler:  # each transaction has another connection
                    raw = (await connection.get_raw_connection()).driver_connection
                    await connection.exec_driver_sql(_limits(raw, TRANSACTION_S, local=True))
                if relaxed_durability:
                    await connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield connection

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that has the tables for itself."""
        async with self.engine.begin() as connection, _unhurried(connection):
            await self.exclude(connection, _MIGRATION)
            yield connection

    async def make_way(self, connection: AsyncConnection) -> None:
        """Remove the functions that stay where tables are dropped. Raises: CatalogUnfit."""
        await postgres_functions.drop_left(connection, self.condition.name)

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[AsyncConnection | None]:
        """A transaction as long as need be, while nobody else is `alone` under that name; None: one is.

        Whoever has it commits it, which fails if its connection was lost: what is committed was done alone.
        Until it reads, it has no snapshot, and keeps nothing from autovacuum.
        """
        async with self.engine.connect() as connection, connection.begin(), _unhurried(connection):
            await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            taken = (await connection.execute(_TRY, {"lock": _number_of(name)})).scalar_one()
            yield connection if taken else None

    async def keep_tables(self, connection: AsyncConnection) -> None:
        """Keep everybody who makes or migrates tables out until this transaction ends."""
        await self.exclude(connection, _MIGRATION)

    async def copy_before(self, schema: str) -> Path | None:
        """None: nobody but its operator knows where there is room for one."""
        return None

    async def copy_to(self, folder: Path, read: Callable[[AsyncConnection], Awaitable[T]]) -> tuple[Path, T]:
        """A file of rows. Raises: CopyRefused, CatalogUnavailable."""
        copy = folder / ROWS
        with self.condition.watched():
            async with self.reading(patient=True) as connection:
                found = await connection.run_sync(schema.read)
                schema.check_known(found, migrate=True, done_by="")  # who knows what else a newer one has
                await write_rows(connection, copy)
                return copy, await read(connection)

    async def share(self, connection: AsyncConnection, name: str) -> None:
        """Let nobody `exclude` others under that name until this transaction ends."""
        await connection.execute(_SHARE, {"lock": _number_of(name)})

    async def exclude(self, connection: AsyncConnection, name: str) -> None:
        """Wait for those who `share` or `exclude` under that name, and keep them out until the end."""
        await connection.execute(_EXCLUDE, {"lock": _number_of(name)})

    def now_ms(self) -> int:
        """This moment in ms since 1970, by the server's clock."""
        return self._clock.now_ms()

    async def given_seq(self, connection: AsyncConnection) -> int:
        """The greatest `seq` that the outbox has given, 0 before the first."""
        return await postgres_seq.given_seq(connection)

    async def read_in_order(self, connection: AsyncConnection) -> None:
        """Sort nothing that an index has in order."""
        await connection.exec_driver_sql("SET LOCAL enable_sort = off")

    async def give_above(self, connection: AsyncConnection, seq: int) -> None:
        """Have the outbox give no `seq` from now on that is not above that one."""
        await postgres_seq.give_above(connection, seq)

    def stay_above(self, newest: Callable[[], Awaitable[int]]) -> None:
        """Have the outbox give no `seq` after an outage that is not above `newest`."""
        self._return.newest = newest

    async def insert(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Sequence[object]]
    ) -> None:
        """Insert them by COPY: the server takes them as they come, and answers once."""
        raw: Any = (await connection.get_raw_connection()).driver_connection
        await raw.copy_records_to_table(
            table.name, records=map(_without_nul, rows), columns=table.columns.keys()
        )

    async def give_numbers_above_rows(self, connection: AsyncConnection) -> None:
        """Move the sequences behind the greatest number that was inserted."""
        for table, column in _NUMBERED.items():
            sequence = f"CAST(pg_get_serial_sequence('{table}', '{column}') AS regclass)"
            greatest = f"greatest(max({column}), pg_sequence_last_value({sequence}))"
            raise_it = f"SELECT setval({sequence}, {greatest}) FROM {table} HAVING count(*) > 0"  # noqa: S608
            await connection.exec_driver_sql(raise_it)

    def seal(self, reason: str) -> Sequence[str]:
        """Triggers that raise."""
        return postgres_seal.seal(reason)

    def unseal(self) -> Sequence[str]:
        """Without these triggers."""
        return postgres_seal.unseal()

    def exchanged(self) -> str | None:
        """Nobody can exchange a database under its name while it has connections."""
        return None

    async def check_damage(self) -> None:
        """Forget damage that was not met again for a while."""
        self.condition.forget_damage(DAMAGE_KEPT_S)

    def check_room(self) -> None:
        """The server says itself when it has none."""

    async def room(self) -> FileRoom | None:
        """None: the server looks after its files."""
        return None

    async def compact(self) -> int:
        """Fold what was added to the totals; autovacuum does the rest."""
        async with self.writing(inline=False, relaxed_durability=True) as connection:
            await self.exclude(connection, _TOTALS)
            await connection.execute(_FOLD)
        return 0

    def find_large_log(self) -> str | None:
        """None: the server looks after its logs."""

    def large_log(self) -> str | None:
        """The server's log is its operator's."""
        return None

    async def close(self) -> None:
        """End all connections."""
        await self.engine.dispose()


def _new_engine(address: Address, servers: Servers, **pooling: object) -> AsyncEngine:
    async def connect(**cached: int) -> Any:  # noqa: ANN401 (the driver's)
        connection = await servers.connect(
            command_timeout=COMMAND_S,
            server_settings={
                "application_name": "media-worker",
                **({} if address.pooler else _KEEPALIVE),
                **({"search_path": address.schema} if address.schema else {}),
            },
            **cached,
        )
        if not address.pooler:
            await connection.execute(_limits(connection, TRANSACTION_S, local=False))
        return connection

    # A pooler gives each transaction another connection of its own, which knows no statement of the last.
    options = {"statement_cache_size": 0, "prepared_statement_cache_size": 0} if address.pooler else {}
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": connect, **options},
        isolation_level="READ COMMITTED",
        hide_parameters=True,  # they are apps' own, and errors are shown to others
        **pooling,
    )


@asynccontextmanager
async def _unhurried(connection: AsyncConnection) -> AsyncIterator[None]:
    """Until the transaction ends, its statements may take minutes: without a connection beside the pool's."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    usual = driver._config  # which the driver reads for each statement, and sets only where it connects
    driver._config = usual._replace(command_timeout=None)
    try:
        await connection.exec_driver_sql(_limits(driver, 0, local=True))
        yield
    finally:
        driver._config = usual


def _limits(connection: Any, transaction_s: float, *, local: bool) -> str:  # noqa: ANN401 (the driver's)
    """The statement that limits how long transactions last (0: they may), or, `local`, the one it is in."""
    limits = {"idle_in_transaction_session_timeout": IDLE_S}
    if connection.get_server_version().major >= 17:
        limits["transaction_timeout"] = transaction_s
    calls = (f"set_config('{name}', '{int(seconds * 1000)}', {local})" for name, seconds in limits.items())
    return f"SELECT {', '.join(calls)}"


def _leave_replica(context: ExceptionContext) -> None:
    """Have all connections made anew once one has met a server that became a replica."""
    cause = context.original_exception
    if sqlstate(cause) == READ_ONLY:
        context.is_disconnect = context.invalidate_pool_on_disconnect = True


def _number_of(name: str) -> int:
    """The number that a lock of this name has, apart from those of other programs in the same database."""
    return int.from_bytes(sha256(f"media-worker:{name}".encode()).digest()[:8], signed=True)


def _without_nul(row: Sequence[object]) -> Sequence[object]:
    return [value.replace("\0", _FOR_NUL) if isinstance(value, str) else value for value in row]
