"""The small values that a catalog keeps under a name, how several writers change them, and checkpoints."""

from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import String, delete, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.rows import load_json
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.tables import kv

Value = dict[str, Any]


class field_of(FunctionElement[str]):  # noqa: N801 (a function of SQL)
    """The text of one field of a value, as a part of a statement; null where the value has none."""

    type = String()
    inherit_cache = True


@compiles(field_of)
def _field_of(element: field_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    value, name = (compiler.process(part, **options) for part in element.clauses)
    return f"json_extract({value}, '$.' || {name})"


class each_of(FunctionElement[str]):  # noqa: N801 (a function of SQL)
    """The elements of a JSON array of texts, as the rows of a table with the column `value`."""

    inherit_cache = True


@compiles(each_of)
def _each_of(element: each_of, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 (theirs)
    return f"json_each({compiler.process(element.clauses, **options)})"


async def read_value(connection: AsyncConnection, name: str, *, alone: bool = False) -> Value | None:
    """The value of `name`, None when there is none; if `alone`, nobody else changes it in this transaction.

    Raises: CatalogDamaged.
    """
    query = select(kv.c.value).where(kv.c.name == name)
    query = query.with_for_update() if alone else query
    text = (await connection.execute(query)).scalar_one_or_none()
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


@dataclass(frozen=True)
class Checkpoint:
    """The progress of the work of one name: a JSON object that its owner defines. Every verb raises
    CatalogUnavailable.
    """

    database: Database
    name: str

    async def load(self) -> Value | None:
        """The progress when it was last saved; None: there is none."""
        async with self.database.reading() as connection:
            return await read_value(connection, self._row)

    @repeated
    async def save(self, progress: object) -> None:
        """Save the progress in place of the last."""
        async with self.database.writing() as connection:
            await write_value(connection, self._row, progress)

    @repeated
    async def clear(self) -> None:
        """Forget the progress: the work is done."""
        async with self.database.writing() as connection:
            await connection.execute(delete(kv).where(kv.c.name == self._row))

    @property
    def _row(self) -> str:
        return f"checkpoint:{self.name}"
