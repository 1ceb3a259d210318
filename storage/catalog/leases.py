"""Leases: who alone may do something for a while. They are rows of `kv` whose names begin with `lease:`."""

from sqlalchemy import ColumnElement, String, and_, cast, delete, or_, type_coerce

from storage.catalog.clock import SKEW_MS
from storage.catalog.kv import dump, field_of
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.tables import Big, kv

lease_holder = type_coerce(field_of(kv.c.value, "holder"), String)
_UNTIL_MS = cast(field_of(kv.c.value, "until_ms"), Big)
_FOR_MS = cast(field_of(kv.c.value, "for_ms"), Big)


async def take_lease(connection: AsyncConnection, name: str, holder: str, now: int, for_ms: int) -> bool:
    """Take or renew the lease of that name; False while another holder has it."""
    lease = {"holder": holder, "until_ms": now + for_ms, "for_ms": for_ms}
    row = {"name": name, "value": dump(lease)}
    taken = (
        insert(kv)
        .values(row)
        .on_conflict_do_update(
            index_elements=["name"], set_=row, where=or_(lease_holder == holder, ~is_live(now))
        )
    )
    return bool((await connection.execute(taken)).rowcount)


async def drop_lease(connection: AsyncConnection, name: str, holder: str) -> None:
    """Give that lease back, if it still is this holder's."""
    await connection.execute(delete(kv).where(kv.c.name == name, lease_holder == holder))


def is_live(now: int) -> ColumnElement[bool]:
    """Whether a lease lasts. One that would last longer than it was given for was given before the clock
    was put back.
    """
    return and_(now < _UNTIL_MS, now + SKEW_MS + _FOR_MS >= _UNTIL_MS)
