"""`media health` where a worker or `media serve` answers probes: it asks there, and imports very little.

An image runs it every few seconds beside its worker, in the same memory and on the same CPU.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from worker.listen_address import parse_bind, reachable_from_here, shown_address

VARIABLE = "MEDIA_METRICS"
EXAMPLE = f"{VARIABLE}=127.0.0.1:8469"
HTTP_VARIABLE, HTTP_DEFAULT = "MEDIA_HTTP_BIND", "127.0.0.1:8080"
_TIMEOUT_S = 3.0  # of all that is asked: a worker that has no CPU for so long is ill
_MOST = 1_000_000  # bytes of an answer

Report = dict[str, object]


class NoAnswer(Exception):
    """Nobody answered as a worker does; the message says where, and why."""


def probe(*, live: bool, as_json: bool, serve: bool = False) -> int | None:
    """Print how the worker or the server here is; returns the exit code, None where it serves no probes."""
    variable = HTTP_VARIABLE if serve else VARIABLE
    value = _setting(variable) or (HTTP_DEFAULT if serve else "")
    if not value:
        return None
    try:
        where = parse_bind(value)
        if isinstance(where, Path) and not serve:
            raise ValueError("must be HOST:PORT")  # noqa: TRY301
    except ValueError as error:
        sys.stderr.write(f"Invalid settings:\n{variable}: {error}\n")
        return 2
    try:
        is_well, report = ask(where, "/healthz" if live else "/readyz", variable)
    except NoAnswer as error:
        is_well, report = False, {"status": "unreachable", "reason": str(error)}
    show(report, live=live, as_json=as_json)
    return 0 if is_well else 1


def show(report: Report, *, live: bool = False, as_json: bool = False) -> None:
    """Print a report on one line, for people or as JSON."""
    if as_json:
        line = json.dumps(report)
    else:
        status, reason = report["status"], report.get("reason")
        word = ("alive" if live else "ready") if status == "ok" else str(status)
        line = f"{word}: {reason}" if reason else word
    line = "".join(each if each.isprintable() else "?" for each in line)
    encoded = f"{line}\n".encode(sys.stdout.encoding, "replace")  # whatever the terminal can show
    with suppress(OSError):  # the exit code says enough; what a buffer keeps would change it at the end
        os.write(sys.stdout.fileno(), encoded)


def ask(where: tuple[str, int] | Path, path: str, variable: str = VARIABLE) -> tuple[bool, Report]:
    """Whether the probe at `path` succeeds, and the document with it. Raises: NoAnswer."""
    shown = f"unix:{where}" if isinstance(where, Path) else shown_address(*where)
    who = "server" if variable == HTTP_VARIABLE else "worker"
    try:
        head, _, body = _get(where, path).partition(b"\r\n\r\n")
    except OSError as error:
        reason = "nothing came in time" if isinstance(error, TimeoutError) else error.strerror or error
        raise NoAnswer(f"no {who} answers at {shown}, where {variable} says: {reason}") from error
    code = head.partition(b"\r\n")[0].split(b" ")[1:2]
    try:
        report = json.loads(body)
    except ValueError:
        report = None
    if code not in ([b"200"], [b"503"]) or not isinstance(report, dict) or "status" not in report:
        raise NoAnswer(f"what answers at {shown}, where {variable} says, is no {who}")
    return code == [b"200"], report


def _connect(where: tuple[str, int] | Path) -> socket.socket:
    if not isinstance(where, Path):
        return socket.create_connection((reachable_from_here(where[0]), where[1]), _TIMEOUT_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_TIMEOUT_S)
    try:
        connection.connect(str(where))
    except OSError:
        connection.close()
        raise
    return connection


def _get(where: tuple[str, int] | Path, path: str) -> bytes:
    until, parts, size = time.monotonic() + _TIMEOUT_S, [], 0
    with _connect(where) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while size < _MOST:
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError
            connection.settimeout(left)
            if not (part := connection.recv(65_536)):
                break
            parts.append(part)
            size += len(part)
    return b"".join(parts)


def _setting(variable: str) -> str | None:
    """What the settings would say, by the same rules."""
    given = {name.upper(): value for name, value in os.environ.items()}
    if variable in given:
        return given[variable]
    from worker.env_files import find_env_files  # which takes longer to import than all else here

    found = (file.variables[variable] for file in reversed(find_env_files()) if variable in file.variables)
    return next(found, None)
