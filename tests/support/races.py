"""Two transactions beside each other, as far as locks let them."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import event, text
from sqlalchemy.util import await_only

from storage.catalog.opening import Catalog

A = TypeVar("A")
B = TypeVar("B")

STUCK_S = 0.3
"""Whoever has not ended by then waits for a lock. If it was slow, the test proves less, and does not fail."""


async def beside(
    catalog: Catalog,
    first: Awaitable[A],
    second: Awaitable[B],
    meanwhile: Callable[[], Awaitable[object]] | None = None,
    *,
    commits: int = 1,
    before: str = "",
) -> tuple[A, B]:
    """Do all of `second`, as far as it gets, while `first`, of `catalog`, has done all but commit.

    `meanwhile` comes last before that commit, which is the last of so many of `first`. With `before` it is
    not a commit that is held, but the statement that begins like that.
    """
    with _held(catalog, commits, before) as (arrived, go):
        one = asyncio.ensure_future(first)
        await asyncio.wait([one, asyncio.ensure_future(arrived.wait())], return_when=asyncio.FIRST_COMPLETED)
        assert not one.done(), f"it wrote nothing: {one.result()}"
        other = asyncio.ensure_future(second)
        await asyncio.wait([other], timeout=STUCK_S)
        if meanwhile is not None:
            await meanwhile()
        go.set()
        return await one, await other


@contextmanager
def _held(catalog: Catalog, number: int, before: str) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """Hold that commit or statement of what `catalog` writes; the events say that it came, and may go on."""
    arrived, go = asyncio.Event(), asyncio.Event()
    times = itertools.count(1)

    def hold(connection: Any, _cursor: Any = None, statement: str = "", *_: Any) -> None:
        writes = connection.get_execution_options().get("writes")
        if writes and statement.startswith(before) and next(times) == number:
            arrived.set()
            await_only(go.wait())

    held = catalog.database.backend.engine.sync_engine, "before_cursor_execute" if before else "commit", hold
    event.listen(*held)
    try:
        yield arrived, go
    finally:
        go.set()
        event.remove(*held)


async def waits_for_a_lock(catalog: Catalog) -> bool:
    """Whether somebody waits for somebody else's lock in that database of Postgres."""
    here = "datname = current_database() AND wait_event_type = 'Lock'"
    query = f"SELECT count(*) FROM pg_stat_activity WHERE {here}"
    async with catalog.database.reading() as connection:
        return bool((await connection.execute(text(query))).scalar_one())
