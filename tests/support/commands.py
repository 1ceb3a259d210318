"""The command `media`, run as its user runs it: a process, its output, its exit code, or a terminal."""

import contextlib
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import fork_server
from tests.support.fork_server import ForkedProcess
from tests.support.old_catalogs import next_migrations, of_next_version

MEDIA = Path(sys.executable).parent / "media"
Ended = subprocess.CompletedProcess[str]

_TIMEOUT_S = 60
_OF_THE_INTERPRETER = {"LC_ALL", "PYTHONPATH", "PYTHONUTF8"}  # read when Python starts


def media(
    env: Mapping[str, str], *arguments: str | Path, cwd: Path | None = None, confined: bool = False
) -> Ended:
    """Run `media` to its end; `confined` to what files' modes allow, also when root runs the tests.

    Forked from a process that has imported it, for the import costs more than most commands do; where the
    environment is to change the interpreter itself, it is the installed script.
    """
    words = [str(argument) for argument in arguments]
    where = cwd or Path(env["HOME"])
    if _OF_THE_INTERPRETER & env.keys():
        assert not confined, "only what is forked can be confined"
        return run_installed([str(MEDIA), *words], env, where)
    return forked(["media", *words], env, where, confined=confined)


def media_of_next_version(env: Mapping[str, str], folder: Path, *words: str) -> Ended:
    """Run `media` of a version that knows one schema more, whose migrations are put into `folder`."""
    return media({**env, **of_next_version(next_migrations(folder))}, *words)


def run_installed(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, timeout_s: float = _TIMEOUT_S
) -> Ended:
    """Run a command to its end, as a process of its own."""
    return subprocess.run(
        command, env=dict(env), cwd=cwd, capture_output=True, encoding="utf-8", timeout=timeout_s
    )


def forked(words: Sequence[str], env: Mapping[str, str], cwd: Path, *, confined: bool = False) -> Ended:
    """Run `media …` or `arq …` to its end, forked."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        process = ForkedProcess(
            fork_server.commands(),
            words,
            env,
            cwd,
            stdout=out.fileno(),
            stderr=err.fileno(),
            confined=confined,
        )
        try:
            code = process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return Ended(list(words), code, out.read(), err.read())


def documents(ended: Ended) -> list[Any]:
    """What a command printed as JSON, a document a line; anything else there is an error."""
    return [json.loads(line) for line in ended.stdout.splitlines()]


def document(ended: Ended) -> Any:
    """The one JSON document that a command printed."""
    [only] = documents(ended)
    return only


def on_a_terminal(env: Mapping[str, str], *arguments: str | Path) -> tuple[int, str]:
    """The exit code of `media`, and everything that its terminal was sent."""
    ours, theirs = pty.openpty()
    command = [str(MEDIA), *(str(argument) for argument in arguments)]
    terminal = {**env, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        command, env=terminal, cwd=env["HOME"], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    watchdog = threading.Timer(_TIMEOUT_S, process.kill)
    watchdog.start()
    shown = b""
    with contextlib.suppress(OSError):  # Linux' way to say that the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    code = process.wait()
    watchdog.cancel()
    os.close(ours)
    return code, shown.decode()
