"""The keys that HTTP clients show: what they may do, and whose uploads they see; secrets are not kept."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal, select, update

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.rows import Row
from storage.catalog.schema import is_table
from storage.catalog.sqlalchemy_parts import insert
from storage.catalog.tables import http_keys

ALL_KEYS = select(http_keys).order_by(http_keys.c.made_ms, http_keys.c.name)
NAME = re.compile(r"[a-z0-9_-]{1,32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HttpKey:
    """A key: the SHA-256 of its secret, what it may do, and to whose uploads; times are ms since 1970."""

    name: str
    sha256: str  # hexadecimal
    scopes: frozenset[str]
    owner: str | None = None  # whose uploads alone it opens; None: everybody's
    prefix: str | None = None  # of the sources that it opens; None: all
    made_ms: int = 0
    revoked_ms: int | None = None  # since then it opens nothing; None: it does


class HttpKeys:
    """The keys of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    async def add(self, key: HttpKey) -> bool:
        """Keep a key; False where one has its name, or its secret, revoked ones included.

        One that was made at 0 ms is made now. Raises: ValueError where its name or its hash is none.
        """
        if not NAME.fullmatch(key.name):
            raise ValueError("a key's name has 1 to 32 characters of a-z 0-9 _ -")
        if not _SHA256.fullmatch(key.sha256):
            raise ValueError("the hash of a key's secret has 64 lower-case hexadecimal digits")
        row = _row(key) | {"made_ms": key.made_ms or self._database.now_ms()}
        async with self._database.writing() as connection:
            return bool(
                (await connection.execute(insert(http_keys).on_conflict_do_nothing().values(row))).rowcount
            )

    @repeated
    async def revoke(self, name: str) -> bool:
        """Let the key open nothing any more; False where there is none, or it was revoked before."""
        mine = http_keys.c.name == name, http_keys.c.revoked_ms.is_(None)
        statement = update(http_keys).where(*mine).values(revoked_ms=self._database.now_ms())
        async with self._database.writing() as connection:
            return bool((await connection.execute(statement)).rowcount)

    @repeated
    async def take_over(self, keys: Sequence[HttpKey]) -> None:
        """Have the keys of the catalog in whose place this one is put; those revoked there are so here."""
        if not keys:
            return
        given = insert(http_keys)
        revoked_ms = func.coalesce(http_keys.c.revoked_ms, given.excluded.revoked_ms)
        take_over = given.on_conflict_do_update(index_elements=["name"], set_={"revoked_ms": revoked_ms})
        async with self._database.writing() as connection:
            await connection.execute(take_over, [_row(key) for key in keys])

    async def all(self) -> Sequence[HttpKey]:
        """Every key, revoked ones too, oldest first."""
        return await read_keys(self._database)


async def read_keys(database: Database) -> Sequence[HttpKey]:
    """Every key of a catalog, none of one of a schema without keys. Raises: CatalogUnavailable."""
    async with database.reading() as connection:
        if not await connection.scalar(select(is_table(literal(http_keys.name)))):
            return []
        return [to_key(dict(row)) for row in (await connection.execute(ALL_KEYS)).mappings()]


def _row(key: HttpKey) -> Row:
    return {**vars(key), "scopes": ",".join(sorted(key.scopes))}


def to_key(row: Mapping[str, Any]) -> HttpKey:
    """A key out of its row."""
    scopes = frozenset(filter(None, row["scopes"].split(",")))
    return HttpKey(**{**row, "scopes": scopes})
