"""Epochs: a stream that begins anew (deleted, another server, restored) numbers its entries anew, too.

Within one epoch a later entry has a greater ID, whatever the clocks say. An event of a later epoch is newer
than every event of an earlier one.
"""

from dataclasses import dataclass

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.kv import Value, read_value, replace_value
from storage.catalog.records import StreamId
from storage.catalog.sqlalchemy_parts import AsyncConnection

_NAME = "stream"


@dataclass(frozen=True)
class Epoch:
    """The epoch that the stream is in, and the newest entry of it that was taken (None: none yet)."""

    number: int = 0
    newest: StreamId | None = None


class Epochs:
    """The epochs of one catalog's stream. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(self) -> Epoch:
        """The epoch that the stream is in."""
        async with self._database.reading() as connection:
            return await read_epoch(connection)

    @repeated
    async def begin(self, after: int) -> int:
        """End the epoch `after` and begin the next, unless somebody has; returns the present epoch.

        The first one goes on while nothing was taken in it.
        """
        async with self._database.writing() as connection:
            current = await read_epoch(connection)
            following = Epoch(after + 1)
            begins = current.number == after and current != Epoch()
            if begins and await _replace(connection, current, following):
                return following.number
            return (await read_epoch(connection)).number


async def read_epoch(connection: AsyncConnection, *, alone: bool = False) -> Epoch:
    """The epoch that the stream is in; if `alone`, it stays that until this transaction ends."""
    found = await read_value(connection, _NAME, alone=alone)
    if found is None:
        return Epoch()
    newest = found["newest"]
    return Epoch(found["epoch"], StreamId(newest[0], newest[1], found["epoch"]) if newest else None)


async def note_taken(connection: AsyncConnection, current: Epoch, newest: StreamId) -> bool:
    """Remember the entry `newest` as taken; False where the epoch is not as it was."""
    return await _replace(connection, current, Epoch(current.number, newest))


async def _replace(connection: AsyncConnection, before: Epoch, after: Epoch) -> bool:
    return await replace_value(
        connection, _NAME, None if before == Epoch() else _value(before), _value(after)
    )


def _value(epoch: Epoch) -> Value:
    newest = [epoch.newest.ms, epoch.newest.n] if epoch.newest else None
    return {"epoch": epoch.number, "newest": newest}
