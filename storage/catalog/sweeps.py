"""What a sweep asks of the catalog: which keys have rows, and the marks and the lease that make it safe."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.backfill import queue_again
from storage.catalog.clock import now_ms
from storage.catalog.database import Database
from storage.catalog.facts import State
from storage.catalog.tables import condemned, facts, variants

_PAGE = 5000
_LEASE = "lease:sweep"
_LAST = "sweep:last"


@dataclass(frozen=True)
class Held:
    """A key that a row holds: whose it is, how large, and since when it is superseded (ms; None: current)."""

    key: str
    upload_id: UUID
    bytes: int
    superseded_ms: int | None


@dataclass(frozen=True)
class Tally:
    """A number of files (or rows) and their bytes."""

    count: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Swept:
    """What a sweep found when it had looked at everything: the drift between catalog and disk.

    `files` is what lies below `variants/`, `rows` is what the catalog holds there; `findings` says where
    they differ, by kind (orphan, missing, leftover, retired, unknown; a kind of which there is none is
    left out). `trash` is all of `trash/`, plans included.
    """

    plan: str
    time_ms: int
    files: Tally
    rows: Tally
    findings: Mapping[str, Tally]
    trash: Tally
    stopped: str | None = None  # why the breaker stopped it
    applied_ms: int | None = None  # when the plan was carried out
    done: Mapping[str, int] = field(default_factory=dict)  # how many of each kind were dealt with then


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

    async def last(self) -> Swept | None:
        """What the last sweep found that came to its end, None before the first. Raises: CatalogUnavailable.

        What it says of the disk was true at `time_ms`.
        """
        async with self._database.reading() as connection:
            value = await read_fact(connection, _LAST)
        if value is None:
            return None
        said = {**value, **{name: Tally(**value[name]) for name in ("files", "rows", "trash")}}
        return Swept(**{**said, "findings": {kind: Tally(**one) for kind, one in value["findings"].items()}})

    async def remember(self, swept: Swept) -> None:
        """Keep what a sweep found, in place of what the one before did. Raises: CatalogUnavailable."""
        async with self._database.writing() as connection:
            await write_fact(connection, _LAST, swept)

    async def lease(self, holder: str, seconds: float) -> bool:
        """Take or renew the right to sweep; False while somebody else has it. Raises: CatalogUnavailable."""
        now = now_ms()
        async with self._database.writing() as connection:
            current = await read_fact(connection, _LEASE)
            if current is not None and current["holder"] != holder and current["until_ms"] > now:
                return False
            mine = {"holder": holder, "until_ms": now + int(seconds * 1000)}
            await write_fact(connection, _LEASE, mine)
        return True

    async def end_lease(self, holder: str) -> None:
        """Give the right to sweep back. Raises: CatalogUnavailable."""
        if await self.lease(holder, 0):
            async with self._database.writing() as connection:
                await connection.execute(delete(facts).where(facts.c.name == _LEASE))


async def read_fact(connection: AsyncConnection, name: str) -> dict[str, Any] | None:
    """What is kept under `name`, None when nothing is."""
    query = select(facts.c.value).where(facts.c.name == name)
    value = (await connection.execute(query)).scalar_one_or_none()
    found: dict[str, Any] | None = None if value is None else orjson.loads(value)
    return found


async def write_fact(connection: AsyncConnection, name: str, value: object) -> None:
    """Keep something small under `name`."""
    row = {"name": name, "value": orjson.dumps(value).decode()}
    statement = insert(facts).values(row)
    await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))
