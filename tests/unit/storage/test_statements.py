"""Prepared statements: what they return, write and raise is what SQLAlchemy's are, wherever they run."""

from uuid import UUID

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage.catalog.opening import Catalog
from storage.catalog.statements import INLINE, PreparedStatement
from storage.catalog.tables import kv, outbox, uploads
from tests.support.catalogs import CAT, ON_BOTH, statements, take, upload_event

pytestmark = ON_BOTH

ADD = insert(kv)
BY_ID = select(uploads).where(uploads.c.id.in_(bindparam("ids", expanding=True)))
MESSAGE = {"body": "{}", "made_ms": 1}


@pytest.mark.parametrize("count", [1, 2])
async def test_a_row_is_as_sqlalchemy_reads_it_booleans_and_bytes_included(
    catalog: Catalog, count: int
) -> None:
    await take(catalog, upload_event(1))
    blurred = update(uploads).values(thumbhash=b"\0hash", revive=True)
    values = {"ids": [str(CAT), str(UUID(int=1))][:count]}
    async with catalog.database.writing(inline=True) as connection:
        await PreparedStatement(blurred).count(connection, {})
        found = await PreparedStatement(BY_ID).rows(connection, values)
        expected = (await connection.execute(BY_ID, values)).mappings().one()

    assert found == [dict(expected)]
    assert (found[0]["revive"], bytes(found[0]["thumbhash"])) == (True, b"\0hash")


@pytest.mark.parametrize("inline", [True, False])
async def test_a_transaction_reads_the_same_inline_as_otherwise_and_only_then_without_a_thread(
    catalog: Catalog, inline: bool
) -> None:
    await take(catalog, upload_event(1))
    for short in (not inline, inline):  # one after the other, on the same connection
        async with catalog.database.reading(inline=short) as connection:
            [row] = await PreparedStatement(BY_ID).rows(connection, {"ids": [str(CAT)]})
            driver = connection.info.get(INLINE)
            is_inline = driver is not None and driver.inline

    assert row["id"] == str(CAT)
    assert is_inline == (inline and driver is not None)


async def test_the_columns_that_are_written_are_those_of_the_values(catalog: Catalog) -> None:
    change = PreparedStatement(update(uploads).where(uploads.c.id == bindparam("upload")))
    await take(catalog, upload_event(1))
    async with catalog.database.writing(inline=True) as connection:
        for changes in ({"attempts": 3}, {"crash_count": 2, "attempts": 4}, {"width": None}):
            assert await change.count(connection, {"upload": str(CAT), **changes}) == 1
        [row] = await PreparedStatement(BY_ID).rows(connection, {"ids": [str(CAT)]})

    assert (row["attempts"], row["crash_count"], row["width"]) == (4, 2, None)


async def test_many_rows_are_one_statement_and_their_numbers_come_in_order(catalog: Catalog) -> None:
    add = PreparedStatement(insert(outbox).returning(outbox.c.seq, sort_by_parameter_order=True))
    async with catalog.database.writing(inline=True) as connection:
        with statements(catalog) as seen:
            await PreparedStatement(ADD).each(connection, [{"name": each, "value": ""} for each in "ab"])
        numbers = await add.numbers(connection, [MESSAGE, MESSAGE, MESSAGE])

    assert len(seen) == 1
    assert list(numbers) == sorted(numbers)
    assert len(set(numbers)) == 3


async def test_what_a_constraint_refuses_raises_as_sqlalchemy_raises_it(catalog: Catalog) -> None:
    with pytest.raises(IntegrityError):
        async with catalog.database.writing(inline=True) as connection:
            await PreparedStatement(ADD).count(connection, {"name": "id", "value": "twice"})

    async with catalog.database.reading() as connection:
        assert (await connection.execute(select(kv.c.value).where(kv.c.value == "twice"))).all() == []
