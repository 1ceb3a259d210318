"""What is used of two packages of SQLAlchemy, without the rest: its ORM, and what only Postgres needs.

`insert` knows ON CONFLICT, in the words of Postgres' dialect, which SQLite's understands, too.
"""

from storage.loading import in_parts

in_parts("sqlalchemy.ext.asyncio", "engine")
in_parts("sqlalchemy.dialects.postgresql", "dml")

from sqlalchemy.dialects.postgresql.array import ARRAY  # noqa: E402
from sqlalchemy.dialects.postgresql.dml import Insert, insert  # noqa: E402
from sqlalchemy.ext.asyncio.engine import AsyncConnection, AsyncEngine, create_async_engine  # noqa: E402

__all__ = ["ARRAY", "AsyncConnection", "AsyncEngine", "Insert", "create_async_engine", "insert"]
