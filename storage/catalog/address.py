"""Where a catalog is, as its URL says: which kind of database, and how it is shown without its password."""

import importlib.util
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from storage.errors import lacking

_SCHEMES = r"postgresql(\+asyncpg)?://"
_TLS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_VALUES = {
    "target_session_attrs": ("any", "primary", "read-write"),  # a catalog is written
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "ssl_min_protocol_version": _TLS,
    "ssl_max_protocol_version": _TLS,
}
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_OPTIONS = {*_VALUES, *_FILES, "sslpassword", "host", "port"}
_PORT = 5432
SQLITE = "sqlite+aiosqlite:///"
POOL = 4


@dataclass(frozen=True)
class Address:
    """The URL of a catalog; on a server with `pool` connections of one process, maybe through a `pooler`."""

    url: str
    pool: int = POOL
    pooler: bool = False
    schema: str = ""  # of the server's database; empty: the one that a connection begins with
    is_replica: bool = False  # any of its servers will do, whether it takes writes or not

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
    def hosts(self) -> Sequence[tuple[str, int]]:
        """The servers and their ports, in the order of the URL. Raises: ValueError where a port is none."""
        rest, _, query = self.url.partition("://")[2].partition("?")
        named = rest.partition("/")[0].rpartition("@")[2]
        if named:
            return [_host_of(each) for each in named.split(",")]
        options = dict(parse_qsl(query))
        hosts, ports = options["host"].split(","), options.get("port", str(_PORT)).split(",")
        if len(ports) == 1:
            ports *= len(hosts)
        return [(host, _port_of(port)) for host, port in zip(hosts, ports, strict=True)]

    @property
    def wants_a_kind_of_server(self) -> bool:
        """Whether the URL asks for a kind of server, such as one that takes writes."""
        return "target_session_attrs=" in self.url

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
            return lacking("postgres")
        options = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
        return _mistake_in_options(options) or _mistake_in_place(url) or _mistake_in_files(options)
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
    if not place["hosts"] and "host=" not in query:
        return "names no host"
    try:
        Address(url).hosts  # noqa: B018 (it is read to see whether it can be)
    except ValueError:
        return "must have a number from 1 to 65535 as the port of each host"
    return None


def _mistake_in_options(options: Mapping[str, str]) -> str | None:
    if unknown := sorted(set(options) - _OPTIONS):
        return f"may have the options {', '.join(sorted(_OPTIONS))}, not {', '.join(unknown)}"
    for name, values in _VALUES.items():
        if options.get(name, values[0]) not in values:
            return f"may have {name}={' or '.join(values)}, not {options[name]}"
    return None


def _mistake_in_files(options: Mapping[str, str]) -> str | None:
    for name in _FILES:
        try:
            if name in options:
                Path(options[name]).read_bytes()
                _load(name, options)
        except ssl.SSLError:
            return f"names the file {options[name]} as {name}, which is no such file"
        except OSError as error:
            return f"names the file {options[name]} as {name}, which cannot be read: {error.strerror}"
    return None


def _load(name: str, options: Mapping[str, str]) -> None:
    """Raises: ssl.SSLError where the file is not what it is to be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if name in ("sslrootcert", "sslcrl"):
        context.load_verify_locations(options[name])
    elif name == "sslcert" and "sslkey" in options:
        context.load_cert_chain(options[name], options["sslkey"], lambda: options.get("sslpassword", ""))


def _host_of(spec: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\[(?P<v6>[^]]+)]|(?P<name>[^:]+))(:(?P<port>.*))?", spec)
    if found is None:
        raise ValueError(spec)
    return unquote(found["v6"] or found["name"]), _port_of(found["port"] or str(_PORT))


def _port_of(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError(text)
    return port
