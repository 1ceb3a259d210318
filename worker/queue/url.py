"""The URL of a Redis: which options it may have, and which of them a worker uses. An app may share it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis import ConnectionPool
from redis.asyncio.connection import parse_url
from redis.connection import URL_QUERY_ARGUMENT_PARSERS

URL_OPTIONS = (
    "db",
    "username",
    "password",
    "client_name",
    "ssl_cert_reqs",
    "ssl_ca_certs",
    "ssl_ca_data",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "ssl_ciphers",
)
"""What may follow the `?` in MEDIA_REDIS_URL."""
SENTINEL_SCHEME = "redis+sentinel"
_SENTINEL_PORT = 26379
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OF_OTHER_CLIENTS = ("protocol", "decode_responses", "encoding", "encoding_errors")
_OF_THE_SERVER = ("connection_class", "host", "port", "path")  # what `parse_url` makes of the rest of a URL


def check_url(value: str) -> str:
    """`value`, if it is the URL of a Redis. Raises: ValueError, with the reason, and no part of a secret."""
    parts = urlsplit(value)
    if parts.scheme == SENTINEL_SCHEME:
        sentinels_of(value)
        check_url(without_sentinels(value))
        return value
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must begin with redis://, rediss://, redis+sentinel:// or unix://")
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("has no host")
    try:
        ConnectionPool.from_url(value)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if "Invalid value" in text else "has a port that is not a number") from error
    database = "" if parts.scheme == "unix" else parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("has a database that is not a number")
    _check_options(parts.scheme, {name: unquote(last) for name, (*_, last) in parse_qs(parts.query).items()})
    return value


def _check_options(scheme: str, options: Mapping[str, str]) -> None:
    """Options of other clients are allowed and ignored: an app may share the URL."""
    known = (*URL_OPTIONS, *_OF_OTHER_CLIENTS, *URL_QUERY_ARGUMENT_PARSERS)
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"has the unknown option {unknown[0]}; known: {', '.join(URL_OPTIONS)}")
    if scheme != "rediss" and (of_tls := [name for name in options if name.startswith("ssl_")]):
        raise ValueError(f"has the option {of_tls[0]}, which only rediss:// takes")
    if options.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise ValueError("must have none, optional or required as ssl_cert_reqs")
    for name in _FILES:
        if name in options and not os.access(options[name], os.R_OK):
            raise ValueError(f"has a file as {name} that does not exist or cannot be read: {options[name]}")


@dataclass(frozen=True)
class Sentinels:
    """Who is asked where the primary `name` is."""

    addresses: tuple[tuple[str, int], ...]
    name: str


def sentinels_of(url: str) -> Sentinels | None:
    """The Sentinels of `redis+sentinel://HOST[:PORT],…/NAME[/DATABASE]`; None: the URL is another kind.

    Raises: ValueError, with no part of a secret.
    """
    parts = urlsplit(url)
    if parts.scheme != SENTINEL_SCHEME:
        return None
    name = parts.path.strip("/").partition("/")[0]
    if not name:
        raise ValueError("has no name of a primary after the hosts")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return Sentinels(tuple(_address(host) for host in hosts), unquote(name))


def without_sentinels(url: str) -> str:
    """The URL of a primary whose address a Sentinel will tell: its user, database and options."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    database = parts.path.strip("/").partition("/")[2]
    return parts._replace(scheme="redis", netloc=f"{user}{at}sentinel", path=f"/{database}").geturl()


def _address(host: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port or _SENTINEL_PORT
    except ValueError as error:
        raise ValueError("has a port that is not a number") from error
    if not parts.hostname:
        raise ValueError("has no host")
    return parts.hostname, port


def server_of(url: str) -> dict[str, Any]:
    """The options of a URL that describe the server; those of a client are for apps that share it."""
    given = parse_url(without_sentinels(url) if sentinels_of(url) else url).items()
    return {name: value for name, value in given if name in (*_OF_THE_SERVER, *URL_OPTIONS)}
