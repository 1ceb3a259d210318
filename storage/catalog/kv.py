"""The small values that a catalog keeps under a name, and how one of several writers changes them."""

from typing import Any

import orjson
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.dialect import insert
from storage.catalog.rows import load_json
from storage.catalog.tables import kv

Value = dict[str, Any]


async def read_value(connection: AsyncConnection, name: str) -> Value | None:
    """The value of `name`, None when there is none. Raises: CatalogDamaged."""
    text = (await connection.execute(select(kv.c.value).where(kv.c.name == name))).scalar_one_or_none()
    found: Value | None = None if text is None else load_json(text)
    return found


async def write_value(connection: AsyncConnection, name: str, value: object) -> None:
    """Keep `value` under `name`, whatever is there."""
    row = {"name": name, "value": dump(value)}
    statement = insert(kv).values(row)
    await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))


async def replace_value(
    connection: AsyncConnection, name: str, before: Value | None, after: object | None
) -> bool:
    """Put `after` in the place of `before` (None: nothing); False where something else is there by now."""
    mine = kv.c.name == name, kv.c.value == dump(before)
    if before is None:
        row = {"name": name, "value": dump(after)}
        written = await connection.execute(insert(kv).values(row).on_conflict_do_nothing())
    elif after is None:
        written = await connection.execute(delete(kv).where(*mine))
    else:
        written = await connection.execute(update(kv).where(*mine).values(value=dump(after)))
    return bool(written.rowcount)


def dump(value: object) -> str:
    """The text of a value, as a row holds it."""
    return orjson.dumps(value).decode()
