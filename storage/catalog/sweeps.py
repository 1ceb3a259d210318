"""What a sweep asks of the catalog: which keys have rows, and the marks and the lease that make it safe."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.sqlite import insert

from storage.catalog.backfill import queue_again
from storage.catalog.clock import now_ms
from storage.catalog.database import Database
from storage.catalog.facts import State
from storage.catalog.tables import condemned, facts, variants

_PAGE = 5000
_LEASE = "lease:sweep"


@dataclass(frozen=True)
class Held:
    """A key that a row holds: whose it is, how large, and since when it is superseded (ms; None: current)."""

    key: str
    upload_id: UUID
    bytes: int
    superseded_ms: int | None


class Sweeps:
    """The sweeper's questions to one catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def held(self, after: str = "") -> AsyncGenerator[Held, None]:
        """Every key that a row holds, after the key `after`, in order of key."""
        while True:
            query = (
                select(variants.c.key, variants.c.upload_id, variants.c.bytes, variants.c.superseded_ms)
                .where(variants.c.key > after)
                .order_by(variants.c.key)
                .limit(_PAGE)
            )
            async with self._database.reading() as connection:
                page = (await connection.execute(query)).all()
            for row in page:
                yield Held(row.key, UUID(row.upload_id), row.bytes, row.superseded_ms)
            if len(page) < _PAGE:
                return
            after = page[-1].key

    async def find_held(self, keys: Sequence[str]) -> Mapping[str, Held]:
        """Those of `keys` that a row holds, now. Raises: CatalogUnavailable."""
        query = select(
            variants.c.key, variants.c.upload_id, variants.c.bytes, variants.c.superseded_ms
        ).where(variants.c.key.in_(keys))
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).all()
        return {row.key: Held(row.key, UUID(row.upload_id), row.bytes, row.superseded_ms) for row in found}

    async def count(self) -> int:
        """How many keys rows hold. Raises: CatalogUnavailable."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(func.count()).select_from(variants))).scalar_one()

    async def condemn(self, keys: Sequence[str]) -> frozenset[str]:
        """Mark those of `keys` that no row holds, so that no row can take them; gives which.

        Raises: CatalogUnavailable.
        """
        async with self._database.writing() as connection:
            query = select(variants.c.key).where(variants.c.key.in_(keys))
            held = set((await connection.execute(query)).scalars())
            free = [key for key in keys if key not in held]
            if free:
                statement = insert(condemned).on_conflict_do_nothing()
                await connection.execute(statement, [{"key": key, "made_ms": now_ms()} for key in free])
        return frozenset(free)

    async def pardon(self, keys: Sequence[str] | None = None) -> None:
        """Take the marks off `keys`, or off all. Raises: CatalogUnavailable."""
        query = delete(condemned)
        if keys is not None:
            query = query.where(condemned.c.key.in_(keys))
        async with self._database.writing() as connection:
            await connection.execute(query)

    async def drop_superseded(self, keys: Sequence[str]) -> Sequence[str]:
        """Forget those of `keys` that are superseded; gives which. A current one stays."""
        chosen = variants.c.key.in_(keys), variants.c.superseded_ms.is_not(None)
        async with self._database.writing() as connection:
            gone = list((await connection.execute(select(variants.c.key).where(*chosen))).scalars())
            await connection.execute(delete(variants).where(variants.c.key.in_(gone)))
        return gone

    async def remake(
        self, upload_ids: Sequence[UUID], *, per_ticket: int, new_ticket: Callable[[], str]
    ) -> Mapping[str, Sequence[UUID]]:
        """Queue those of the uploads that are ready, so that what is missing is made again."""
        async with self._database.writing() as connection:
            return await queue_again(
                connection, upload_ids, State.READY, per_ticket=per_ticket, new_ticket=new_ticket
            )

    async def lease(self, holder: str, seconds: float) -> bool:
        """Take or renew the right to sweep; False while somebody else has it. Raises: CatalogUnavailable."""
        now = now_ms()
        async with self._database.writing() as connection:
            query = select(facts.c.value).where(facts.c.name == _LEASE)
            value = (await connection.execute(query)).scalar_one_or_none()
            if value is not None:
                current = orjson.loads(value)
                if current["holder"] != holder and current["until_ms"] > now:
                    return False
            mine = orjson.dumps({"holder": holder, "until_ms": now + int(seconds * 1000)}).decode()
            row = {"name": _LEASE, "value": mine}
            statement = insert(facts).values(row)
            await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))
        return True

    async def end_lease(self, holder: str) -> None:
        """Give the right to sweep back. Raises: CatalogUnavailable."""
        if await self.lease(holder, 0):
            async with self._database.writing() as connection:
                await connection.execute(delete(facts).where(facts.c.name == _LEASE))
