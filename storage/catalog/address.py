"""Where a catalog is, as its URL says: which kind of database, and how it is shown without its password."""

from dataclasses import dataclass
from pathlib import Path

SQLITE = "sqlite+aiosqlite:///"
POSTGRES = ("postgresql+asyncpg://", "postgresql://")
POOL = 4


@dataclass(frozen=True)
class Address:
    """The URL of a catalog; on a server with `pool` connections of one process, maybe through a `pooler`."""

    url: str
    pool: int = POOL
    pooler: bool = False

    @classmethod
    def of(cls, where: "Address | str") -> "Address":
        """The address that a URL alone is."""
        return where if isinstance(where, Address) else cls(where)

    @property
    def is_file(self) -> bool:
        """Whether it is a file of this host."""
        return self.url.startswith(SQLITE)

    @property
    def path(self) -> Path:
        """The file, as it stands there: whether SQLAlchemy takes %20 for a space depends on its version."""
        return Path(self.url.removeprefix(SQLITE))

    @property
    def dsn(self) -> str:
        """The URL as Postgres' driver reads it: with several hosts, `sslmode`, `target_session_attrs`."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme.partition('+')[0]}://{rest}"

    @property
    def name(self) -> str:
        """What people are shown: the path of a file; a URL without password and options."""
        if self.is_file:
            return str(self.path)
        rest = self.url.partition("://")[2].partition("?")[0]
        user, at, place = rest.rpartition("@")
        return f"postgresql://{user.partition(':')[0]}{at}{place}"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Address({self.name!r})"
