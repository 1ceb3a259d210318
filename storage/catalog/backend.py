"""What a kind of database offers a catalog: the interface of `sqlite.py` and `postgres.py`."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Executable, Table

from storage.catalog.condition import Condition
from storage.catalog.sqlalchemy_parts import AsyncConnection, AsyncEngine
from storage.catalog.sqlite_file import FileRoom

T = TypeVar("T")


class Backend(Protocol):
    """One opened database, without a word of what the catalog keeps in it."""

    @property
    def engine(self) -> AsyncEngine: ...

    @property
    def condition(self) -> Condition: ...

    @property
    def counted(self) -> Executable:
        """The query that counts what the triggers add up, row by row."""

    @property
    def adding(self) -> Executable:
        """The statement that adds rows to the totals."""

    async def exists(self) -> bool:
        """Whether there is a catalog. Raises: CatalogUnavailable where nobody can say."""

    async def prepare(self) -> None:
        """Make what a catalog needs before its tables are made. Raises: FileSystemUnfit."""

    def reading(
        self, *, patient: bool = False, inline: bool = False
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that sees one moment of the catalog, as `Database.reading` says."""

    def writing(
        self, *, inline: bool, relaxed_durability: bool
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may write, as `Database.writing` says."""

    async def make_way(self, connection: AsyncConnection) -> None:
        """Remove what stays of a catalog whose tables were dropped, before new ones are made.

        Raises: CatalogUnfit where something of that name is another program's.
        """

    def migrating(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may take as long as it needs, while nobody else migrates."""

    @property
    def migrated_by(self) -> str:
        """Who migrates a catalog of an older schema, and what has to be done before, for people."""

    async def copy_before(self, schema: str) -> Path | None:
        """A copy of the catalog, as it is before the migration to `schema`; None: its operator makes one."""

    async def copy_to(self, folder: Path, read: Callable[[AsyncConnection], Awaitable[T]]) -> tuple[Path, T]:
        """Copy one moment of the catalog into a new file in `folder`, while others read and write.

        Returns the file, which is durable, and what `read` says of that moment. Raises: CopyRefused, OSError.
        """

    async def share(self, connection: AsyncConnection, name: str) -> None:
        """Let nobody `exclude` others under that name until this transaction ends."""

    async def exclude(self, connection: AsyncConnection, name: str) -> None:
        """Wait for those who `share` or `exclude` under that name, and keep them out until the end."""

    @property
    def locks_rows(self) -> bool:
        """Whether somebody else may have rows locked while this transaction writes others."""

    @property
    def joins_laterally(self) -> bool:
        """Whether a query may ask something for each row of a list; if not, each question costs little."""

    async def read_in_order(self, connection: AsyncConnection) -> None:
        """Have what this transaction reads in order come from an index in that order.

        A server sorts what it takes for few rows, and it cannot know how many are new.
        """

    @property
    def clock_error_ms(self) -> int:
        """By how much the times of two hosts may be apart at most, by that clock."""

    def now_ms(self) -> int:
        """This moment in ms since 1970, by the clock that all hosts of the catalog compare times by."""

    async def given_seq(self, connection: AsyncConnection) -> int:
        """The greatest `seq` that the outbox has given, 0 before the first."""

    async def give_above(self, connection: AsyncConnection, seq: int) -> None:
        """Have the outbox give no `seq` from now on that is not above that one."""

    def stay_above(self, newest: Callable[[], Awaitable[int]]) -> None:
        """Have the outbox give no `seq` after an outage that is not above `newest`."""

    async def insert(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Sequence[object]]
    ) -> None:
        """Insert many rows, each with a value for every column, in order."""

    async def give_numbers_above_rows(self, connection: AsyncConnection) -> None:
        """Have no number given from now on that a row has which was inserted with its number."""

    def seal(self, reason: str) -> Sequence[str]:
        """Statements after which every change of what a move copies raises CatalogUnavailable(`reason`)."""

    def unseal(self) -> Sequence[str]:
        """Statements after which everything can be changed again."""

    def exchanged(self) -> str | None:
        """What to do where another catalog is in its place by now: nobody would see what is written."""

    async def check_damage(self) -> None:
        """Find out, now and then, whether damage that was met is still there."""

    def check_room(self) -> None:
        """Raises: CatalogUnavailable when there is too little room for what is written all the time."""

    async def room(self) -> FileRoom | None:
        """How much of the file is used; None: it is no file of this host."""

    async def compact(self) -> int:
        """Make smaller what has grown; returns how many bytes went back to the disk, where it was much."""

    def find_large_log(self) -> str | None:
        """A warning while a log is large."""

    def large_log(self) -> str | None:
        """A warning where a log has become large, once each time that it does."""

    async def close(self) -> None:
        """End all connections."""
