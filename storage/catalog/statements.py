"""Statements that run for each upload: each text is made once, and runs without a detour where it may."""

from collections.abc import Callable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any, Protocol

from sqlalchemy import Delete, Dialect, Insert, Select, Update
from sqlalchemy.exc import DBAPIError

from storage.catalog.rows import Row
from storage.catalog.sqlalchemy_parts import AsyncConnection

INLINE = "inline"
"""Under this name a connection's `info` has the driver's connection, if that `RunsInline`."""

Statement = Select[Any] | Insert | Update | Delete


class Ran(Protocol):
    """What a driver says of a statement that ran."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...


class RunsInline(Protocol):
    """A driver's connection, which may run statements at once while it is `inline`."""

    inline: bool

    def run(self, text: str, values: Sequence[Any]) -> Ran: ...

    def run_each(self, text: str, values: Sequence[Sequence[Any]]) -> Ran: ...


Run = Callable[[str, Sequence[Any]], Ran]


class PreparedStatement:
    """A statement. Where it `RunsInline` the driver gets its text: SQLAlchemy costs more than it runs.

    Values are by the names of its parameters and of the columns that it writes. Those of an expanding
    parameter are a list.
    """

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self._texts: dict[tuple[object, ...], _Text] = {}

    async def rows(self, connection: AsyncConnection, values: Row) -> Sequence[Row]:
        """Run it; returns the rows that it returns."""
        if (driver := _inline(connection)) is None:
            return [dict(row) for row in (await connection.execute(self.statement, values)).mappings()]
        text = self._text(connection.dialect, values)
        return text.rows(_run(connection, driver.run, text.text, text.in_order(values)).fetchall())

    async def count(self, connection: AsyncConnection, values: Row) -> int:
        """Run it; returns how many rows it has changed."""
        if (driver := _inline(connection)) is None:
            return (await connection.execute(self.statement, values)).rowcount
        text = self._text(connection.dialect, values)
        return _run(connection, driver.run, text.text, text.in_order(values)).rowcount

    async def each(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Run it with each of these values, which have the same names."""
        if (driver := _inline(connection)) is None:
            await connection.execute(self.statement, rows)
            return
        text = self._text(connection.dialect, rows[0])
        _run(connection, driver.run_each, text.text, [text.in_order(row) for row in rows])

    async def numbers(self, connection: AsyncConnection, rows: Sequence[Row]) -> Sequence[int]:
        """Run it with each of these values; returns the one number that it returns for each, in order."""
        if (driver := _inline(connection)) is None:
            return (await connection.execute(self.statement, rows)).scalars().all()
        text = self._text(connection.dialect, rows[0])
        found = (_run(connection, driver.run, text.text, text.in_order(row)).fetchall() for row in rows)
        return [number for [[number]] in found]

    def _text(self, dialect: Dialect, values: Row) -> "_Text":
        lengths = [len(value) for value in values.values() if type(value) is list]
        key = dialect.name, *values, *lengths
        if (text := self._texts.get(key)) is None:
            text = self._texts[key] = _Text(self.statement, dialect, values)
        return text


class _Text:
    """A statement for one kind of database, with lists of some lengths, and how its rows are read."""

    def __init__(self, statement: Statement, dialect: Dialect, values: Row) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(values))
        expanded = compiled.construct_expanded_state(values)
        given = _flat(values)
        self.text = expanded.statement
        self._names = list(expanded.positiontup or ())
        self._fixed = {
            name: value.value if isinstance(value, Enum) else value
            for name, value in expanded.parameters.items()
            if name not in given
        }
        self._has_lists = any(type(value) is list for value in values.values())
        columns = statement.exported_columns
        self._columns = list(map(str, columns.keys()))
        reads = {
            str(name): one.type.dialect_impl(dialect).result_processor(dialect, None)
            for name, one in columns.items()
        }
        self._reads = {name: read for name, read in reads.items() if read is not None}

    def in_order(self, values: Row) -> Sequence[Any]:
        given = {**self._fixed, **(_flat(values) if self._has_lists else values)}
        return [given[name] for name in self._names]

    def rows(self, found: Sequence[Sequence[Any]]) -> Sequence[Row]:
        rows = [dict(zip(self._columns, row, strict=True)) for row in found]
        for row in rows:
            for name, read in self._reads.items():
                row[name] = read(row[name])
        return rows


def _flat(values: Row) -> Row:
    """The values, each of a list by the name that SQLAlchemy gives it."""
    flat: Row = {}
    for name, value in values.items():
        if type(value) is not list:
            flat[name] = value
            continue
        for number, one in enumerate(value, 1):
            parts = enumerate(one, 1) if isinstance(one, tuple) else ()
            flat |= {f"{name}_{number}_{place}": part for place, part in parts} or {f"{name}_{number}": one}
    return flat


def _inline(connection: AsyncConnection) -> RunsInline | None:
    driver: RunsInline | None = connection.info.get(INLINE)
    return driver if driver is not None and driver.inline else None


def _run(connection: AsyncConnection, run: Run, text: str, values: Sequence[Any]) -> Ran:
    """Run it, raise and tell those who listen to the engine as SQLAlchemy does."""
    opened, dialect, context = connection.sync_connection, connection.dialect, SimpleNamespace()
    assert opened is not None
    listeners: Any = opened.engine.dispatch
    told = opened, None, text, values, context, bool(values) and isinstance(values[0], list)
    listeners.before_cursor_execute(*told)
    try:
        return run(text, values)
    except dialect.loaded_dbapi.Error as error:
        errors: Any = DBAPIError
        raise errors.instance(text, None, error, dialect.loaded_dbapi.Error, hide_parameters=True) from error
    finally:
        listeners.after_cursor_execute(*told)
