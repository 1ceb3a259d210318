"""The mark of a catalog that moves: where it goes, or whence it is filled, so that nobody else uses it."""

from dataclasses import dataclass

import orjson
from sqlalchemy import select

from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.tables import kv
from storage.errors import CatalogMoved

MOVED = "moved"  # the name of a row of `kv`
_COMMAND = "`media migrate-catalog`"


@dataclass(frozen=True)
class Mark:
    """What the row says of a move: whose, which, from where and to where, and how far it is.

    `to` is None in the catalog that is being filled. Once `closing`, the other catalog may be the one that is
    used: the move can only be ended.
    """

    catalog: str
    nonce: str
    source: str
    to: str | None
    closing: bool = False
    done: bool = False


async def read_mark(connection: AsyncConnection) -> Mark | None:
    """The mark of this catalog; None: it has not moved."""
    query = select(kv.c.value).where(kv.c.name == MOVED)
    text = (await connection.execute(query)).scalar_one_or_none()
    return None if text is None else Mark(**orjson.loads(text))


async def check_not_moved(connection: AsyncConnection, name: str) -> None:
    """Raises: CatalogMoved where the catalog of that name has moved, or is about to."""
    mark = await read_mark(connection)
    if mark is None:
        return
    if mark.to is None:
        raise CatalogMoved(f"The catalog {name} is filled from {mark.source}: wait for {_COMMAND} to end.")
    if mark.done:
        raise CatalogMoved(f"The catalog {name} was moved to {mark.to}: set MEDIA_CATALOG_URL to that one.")
    remedy = "run it again" if mark.closing else "run it again, or take it back with --cancel"
    raise CatalogMoved(
        f"The catalog {name} moves to {mark.to}: wait for {_COMMAND} to end. Where it was killed, {remedy}."
    )
