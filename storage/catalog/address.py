"""Where a catalog is, as its URL says: which kind of database, and how it is shown without its password."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

_SCHEMES = r"postgresql(\+asyncpg)?://"
_OPTIONS = {"target_session_attrs", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl"}
_OPTIONS |= {"ssl_min_protocol_version", "ssl_max_protocol_version", "passfile", "host", "port"}
SQLITE = "sqlite+aiosqlite:///"
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


def mistake_in(url: str) -> str | None:
    """What is wrong with the URL of a catalog, without a part of it that may be a password."""
    if re.match(_SCHEMES, url):
        if importlib.util.find_spec("asyncpg") is None:
            return "needs a package that is not installed: pip install media-worker[postgres]"
        return _mistake_in_options(url.partition("?")[2]) or _mistake_in_place(url)
    if re.fullmatch(r"sqlite\+aiosqlite:///[^?:]+", url):
        return None
    return "must be sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE"


def _mistake_in_place(url: str) -> str | None:
    rest, _, query = url.partition("://")[2].partition("?")
    place = re.fullmatch(r"(?:[^/@#]+@)?(?P<hosts>[^/@#]*)/[^/@#]+", rest)
    if place is None:
        return (
            "must be postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE; "
            "in a password / @ ? # % are written %2F %40 %3F %23 %25"
        )
    return None if place["hosts"] or "host=" in query else "names no host"


def _mistake_in_options(query: str) -> str | None:
    names = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    if unknown := sorted(names - _OPTIONS):
        return f"may have the options {', '.join(sorted(_OPTIONS))}, not {', '.join(unknown)}"
    return None
