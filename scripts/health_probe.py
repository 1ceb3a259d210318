"""`media health` where a worker serves probes: it asks there, and imports so little that it costs nothing.

An image runs it every few seconds beside its worker, in the same memory and on the same CPU.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress

from worker.listen_address import parse_address, reachable_from_here, shown_address

VARIABLE = "MEDIA_METRICS"
EXAMPLE = f"{VARIABLE}=127.0.0.1:8469"
_TIMEOUT_S = 3.0  # of all that is asked: a worker that has no CPU for so long is ill
_MOST = 1_000_000  # bytes of an answer

Report = dict[str, object]


class NoAnswer(Exception):
    """Nobody answered as a worker does; the message says where, and why."""


def probe(*, live: bool, as_json: bool) -> int | None:
    """Print how the worker here is, and return the exit code; None where it serves no probes."""
    value = _setting()
    if not value:
        return None
    try:
        host, port = parse_address(value)
    except ValueError as error:
        sys.stderr.write(f"Invalid settings:\n{VARIABLE}: {error}\n")
        return 2
    try:
        is_well, report = ask(host, port, "/healthz" if live else "/readyz")
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


def ask(host: str, port: int, path: str) -> tuple[bool, Report]:
    """Whether the probe at `path` succeeds, and the document with it. Raises: NoAnswer."""
    where = shown_address(host, port)
    try:
        head, _, body = _get(reachable_from_here(host), port, path).partition(b"\r\n\r\n")
    except OSError as error:
        reason = "nothing came in time" if isinstance(error, TimeoutError) else error.strerror or error
        raise NoAnswer(f"no worker answers at {where}, where {VARIABLE} says: {reason}") from error
    code = head.partition(b"\r\n")[0].split(b" ")[1:2]
    try:
        report = json.loads(body)
    except ValueError:
        report = None
    if code not in ([b"200"], [b"503"]) or not isinstance(report, dict) or "status" not in report:
        raise NoAnswer(f"what answers at {where}, where {VARIABLE} says, is no worker")
    return code == [b"200"], report


def _get(host: str, port: int, path: str) -> bytes:
    until, parts, size = time.monotonic() + _TIMEOUT_S, [], 0
    with socket.create_connection((host, port), _TIMEOUT_S) as connection:
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


def _setting() -> str | None:
    """What the settings would say, by the same rules."""
    given = {name.upper(): value for name, value in os.environ.items()}
    if VARIABLE in given:
        return given[VARIABLE]
    from worker.env_files import find_env_files  # which takes longer to import than all else here

    found = (file.variables[VARIABLE] for file in reversed(find_env_files()) if VARIABLE in file.variables)
    return next(found, None)
