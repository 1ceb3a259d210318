"""The URL of a Redis: which options it may have, and which of them a worker uses. An app may share it."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

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
_ENCODED = "in a password, %2F stands for /, %3F for ?, %23 for #, %40 for @, %25 for % and %20 for a blank"
_SENTINEL_PORT = 26379
_OF_SENTINELS = ("sentinel_username", "sentinel_password")  # user and password in the URL are the primary's
_BY_SENTINELS = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<user>(?:[^/?#]*@)?)(?P<hosts>[^/?#]*)/?(?P<name>[^/?#]*)(?P<rest>.*)"
)
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OF_OTHER_CLIENTS = ("protocol", "decode_responses", "encoding", "encoding_errors")
_OF_THE_SERVER = ("connection_class", "host", "port", "path")  # what `parse_url` makes of the rest of a URL


def check_url(value: str) -> str:
    """`value`, if it is the URL of a Redis. Raises: ValueError, with the reason, and no part of a secret."""
    try:
        return _checked(value)
    except ValueError as error:
        if _ends_before_an_at_sign(value):
            raise ValueError(f"{error}; {_ENCODED}") from error
        raise


def _ends_before_an_at_sign(url: str) -> bool:
    """Whether what is read as a host may be a part of a password."""
    place, *rest = re.split("[/?#]", url.partition("://")[2], maxsplit=1)
    before, at, _ = "".join(rest).partition("@")
    return bool(place and at) and "=" not in before.partition("?")[2]  # an option's value may have one


def _checked(value: str) -> str:
    if monitored_by(value):
        _check_hosts(value)
        _checked(_of_the_primary(value))
        return value
    _check_hosts(value)
    parts = urlsplit(value)
    if not value.startswith(("redis://", "rediss://", "unix://")):  # as redis-py compares it
        raise ValueError(
            "must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"
        )
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("has no host")
    try:
        _ = parts.scheme == "unix" or parts.port
    except ValueError as error:
        raise ValueError("has a port that is not a number") from error
    database = "" if parts.scheme == "unix" else parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("has a database that is not a number")
    if parts.query:
        _check_options(value, parts.scheme, _options_in(parts.query))
    return value


def shown_url(url: str) -> str:
    """What people are shown of the URL of a Redis: no password, and no options, which may have one."""
    scheme, _, rest = url.partition("://")
    place, _, options = rest.partition("?")
    user, at, server = place.rpartition("@")
    return f"{scheme}://{user.partition(':')[0]}{at}{server}{'?…' if options else ''}"


def _check_hosts(url: str) -> None:
    """A list of hosts is easily written with blanks, which would be looked up as a part of their names."""
    if re.search(r"\s", re.split("[/?#]", url.partition("://")[2])[0].rpartition("@")[2]):
        raise ValueError("has a blank in a host")


def _options_in(query: str) -> Mapping[str, str]:
    return {name: first for name, (first, *_) in parse_qs(query).items()}


def _check_options(url: str, scheme: str, options: Mapping[str, str]) -> None:
    """Options of other clients are allowed and ignored: an app may share the URL."""
    from redis import ConnectionPool  # few URLs have options, and the client takes a while to import
    from redis.connection import URL_QUERY_ARGUMENT_PARSERS

    ConnectionPool.from_url(url)
    if of_sentinels := [name for name in options if name in _OF_SENTINELS]:
        raise ValueError(f"has the option {of_sentinels[0]}, which only redis+sentinel:// takes")
    known = (*URL_OPTIONS, *_OF_OTHER_CLIENTS, *URL_QUERY_ARGUMENT_PARSERS)
    if unknown := [name for name in options if name not in known]:
        shown = ", ".join((*URL_OPTIONS, *_OF_SENTINELS))
        raise ValueError(f"has the unknown option {unknown[0]}; known: {shown}")
    if scheme != "rediss" and (of_tls := [name for name in options if name.startswith("ssl_")]):
        raise ValueError(f"has the option {of_tls[0]}, which only rediss:// takes")
    if options.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise ValueError("must have none, optional or required as ssl_cert_reqs")
    for name in _FILES:
        if name in options and not os.access(options[name], os.R_OK):
            raise ValueError(f"has a file as {name} that does not exist or cannot be read: {options[name]}")


class Monitored(NamedTuple):
    """A primary by name: the Sentinels that are asked where it is, and their own user and password."""

    hosts: tuple[tuple[str, int], ...]
    name: str
    options: Mapping[str, str]


def monitored_by(url: str) -> Monitored | None:
    """What `redis+sentinel://HOST[:PORT],…/NAME[/DATABASE]` says of Sentinels; None: it is another kind.

    Raises: ValueError, with no part of a secret.
    """
    found = _BY_SENTINELS.fullmatch(url)
    if found is None:
        return None
    if not found["name"]:
        raise ValueError("has no name of a primary after the hosts")
    hosts = tuple(_address(host) for host in found["hosts"].split(","))
    given = _options_in(urlsplit(found["rest"]).query)
    own = {name.removeprefix("sentinel_"): given[name] for name in _OF_SENTINELS if name in given}
    return Monitored(hosts, unquote(found["name"]), own)


def _of_the_primary(url: str) -> str:
    """The URL of a primary whose address a Sentinel will tell: its user, database and options."""
    found = _BY_SENTINELS.fullmatch(url)
    if found is None:
        return url
    parts = urlsplit(f"{found['scheme']}://{found['user']}sentinel{found['rest']}")
    options = [one for one in parts.query.split("&") if one.partition("=")[0] not in _OF_SENTINELS]
    return parts._replace(query="&".join(options)).geturl()


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
    from redis.asyncio.connection import parse_url  # whoever only checks a URL needs no client

    parts = urlsplit(_of_the_primary(url))
    # redis-py decodes options twice: it would make an A of the %41 in a password, however that is encoded.
    query = urlencode({name: quote(value) for name, value in _options_in(parts.query).items()})
    given = parse_url(parts._replace(query=query).geturl()).items()
    return {name: value for name, value in given if name in (*_OF_THE_SERVER, *URL_OPTIONS)}
