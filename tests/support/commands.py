"""The command `media`, run as its user runs it: a process, its output, its exit code, or a terminal."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

MEDIA = Path(sys.executable).parent / "media"
Ended = subprocess.CompletedProcess[str]

_PATIENCE_S = 60
_WITHOUT_ROOTS_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def media(
    env: Mapping[str, str], *arguments: str | Path, cwd: Path | None = None, confined: bool = False
) -> Ended:
    """Run `media` to its end; `confined` to what files' modes allow, also when root runs the tests."""
    command = [str(MEDIA), *(str(argument) for argument in arguments)]
    if confined and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root, and no setpriv to give its rights up")
        command = [*_WITHOUT_ROOTS_RIGHTS, *command]
    where = cwd or Path(env["HOME"])
    return subprocess.run(
        command, env=dict(env), cwd=where, capture_output=True, encoding="utf-8", timeout=_PATIENCE_S
    )


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
    watchdog = threading.Timer(_PATIENCE_S, process.kill)
    watchdog.start()
    shown = b""
    with contextlib.suppress(OSError):  # Linux' way to say that the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    code = process.wait()
    watchdog.cancel()
    os.close(ours)
    return code, shown.decode()
