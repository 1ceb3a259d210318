"""What is known of a copy of a catalog: whose it is, up to where it goes, and how much is in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, inspect, select

from storage.catalog import schema
from storage.catalog.backend import Backend
from storage.catalog.counting import find_wrong_totals
from storage.catalog.epochs import read_epoch
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import kv, metadata, outbox, totals, uploads


@dataclass(frozen=True)
class CatalogFacts:
    """The catalog's own ID, its schema, the greatest `seq` that it gave, that of the newest message that it
    has, the newest event that it took (its epoch and entry; None: none yet), its uploads by state, the rows
    of each table, and how many totals are not what the rows add up to.

    On Postgres a `seq` may have been given to a transaction that is not over: it has no message here.
    """

    catalog: str
    schema: str
    seq: int
    message: int
    epoch: int
    entry: str | None
    uploads: Mapping[str, int]
    rows: Mapping[str, int]
    wrong_totals: int


async def read_facts(connection: AsyncConnection, backend: Backend) -> CatalogFacts:
    """The facts of the catalog that the connection sees, of whatever schema."""
    newest = await read_epoch(connection)
    entry = None if newest.newest is None else f"{newest.newest.ms}-{newest.newest.n}"
    found = str(await connection.run_sync(schema.read))
    counts = found == schema.newest()  # of another one nobody here knows what counts
    states = await connection.execute(select(uploads.c.state, func.count()).group_by(uploads.c.state))
    given = await backend.given_seq(connection)
    message = (await connection.execute(select(func.max(outbox.c.seq)))).scalar_one()
    return CatalogFacts(
        catalog=(await connection.execute(select(kv.c.value).where(kv.c.name == "id"))).scalar_one(),
        schema=found,
        seq=given,
        message=given if message is None else message,
        epoch=newest.number,
        entry=entry,
        uploads={state: count for state, count in states.all()},  # noqa: C416 (rows are no pairs)
        rows=await count_tables(connection),
        wrong_totals=len(await find_wrong_totals(connection, backend.counted)) if counts else 0,
    )


async def count_tables(connection: AsyncConnection) -> Mapping[str, int]:
    """How many rows each of our tables has; of an older schema some may not be there."""
    there = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
    return {
        str(table.name): (await connection.execute(select(func.count()).select_from(table))).scalar_one()
        for table in metadata.sorted_tables
        if table.name in there and table is not totals
    }
