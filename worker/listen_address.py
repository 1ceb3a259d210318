"""HOST:PORT, where a worker serves probes and metrics, and the HTTP server all that it serves.

The settings share this with `media health`, which has no time to import them.
"""

import socket
from pathlib import Path

_FORM = "must be HOST:PORT, such as 127.0.0.1:8469 or [::1]:8469"
_BIND_FORM = "must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, or unix:PATH"
_MOST = 65535
_LONGEST_PATH = 107  # bytes, which the kernel allows
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not bound)


def parse_address(text: str) -> tuple[str, int]:
    """The host and the port of `text`. Raises: ValueError, with a reason for people."""
    host, colon, port = text.rpartition(":")
    if not colon or "/" in text or "@" in text or any(letter.isspace() for letter in text):
        raise ValueError(_FORM)
    if not host or host == "*":
        raise ValueError(f"{_FORM}; 0.0.0.0 is every address of this machine")
    if not (port.isascii() and port.isdigit()) or int(port) > _MOST:
        raise ValueError(f"{_FORM}, with a port of 1 to {_MOST}")
    if int(port) == 0:
        raise ValueError("must name the port: one that the system chooses (0) is found by nobody")
    return _host(host), int(port)


def parse_bind(text: str) -> tuple[str, int] | Path:
    """`parse_address`, or the path of a socket in `unix:PATH`. Raises: ValueError."""
    if not text.startswith("unix:"):
        try:
            return parse_address(text)
        except ValueError as error:
            raise ValueError(str(error).replace(_FORM, _BIND_FORM)) from error
    path = Path(text.removeprefix("unix:")).absolute()
    if len(str(path).encode()) > _LONGEST_PATH:
        raise ValueError(f"has the path of a socket with more than {_LONGEST_PATH} bytes")
    return path


def is_loopback(address: tuple[str, int] | Path) -> bool:
    """Whether only programs of this machine can connect there, whoever runs them."""
    if isinstance(address, Path):
        return False
    try:
        return address[0] in ("localhost", "::1") or socket.inet_pton(socket.AF_INET, address[0])[0] == 127
    except OSError:  # a name, such as 127.example.org, or another address
        return False


def _host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        if not _is_valid(socket.AF_INET6, host[1:-1].partition("%")[0]):
            raise ValueError(f"{_FORM}; {host} is no address of IPv6")
        return host[1:-1]
    if ":" in host:
        raise ValueError(f"{_FORM}: an address of IPv6 stands in brackets")
    if not host.replace(".", "").strip("0123456789") and not _is_valid(socket.AF_INET, host):
        raise ValueError(f"{_FORM}; {host} is no address of IPv4")
    return host


def _is_valid(family: int, address: str) -> bool:
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return False
    return True


def shown_address(host: str, port: int) -> str:
    """An address as people write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_from_here(host: str) -> str:
    """Where this machine finds what listens on `host`."""
    return _EVERYWHERE.get(host, host)
