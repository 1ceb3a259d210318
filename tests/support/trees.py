"""Process trees as /proc shows them: who works in a folder, who descends from whom, what all of them take."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import processes


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def at_work_in(folder: Path) -> list[int]:
    """Every process that works in `folder`, or has it in its arguments or environment."""
    known = os.fsencode(folder)
    return [
        pid
        for pid in _all()
        if processes.lives(pid)
        and (
            _cwd(pid).startswith(str(folder))
            or known in _read(pid, "cmdline")
            or known in _read(pid, "environ")
        )
    ]


def runs(pid: int, *words: str) -> bool:
    """Whether these words follow each other in the command line of `pid`."""
    return "\0".join(words).encode() in _read(pid, "cmdline")


def descendants(pid: int) -> set[int]:
    """`pid`, its children, and theirs."""
    parents = {other: _parent(other) for other in _all()}
    found, grown = set(), {pid}
    while grown:
        found |= grown
        grown = {child for child, parent in parents.items() if parent in grown} - found
    return found


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


class Watched:
    """Samples the memory (PSS) of a whole process tree in a thread; `peak_mib` is the largest sum seen."""

    def __init__(self, pid: int, every_s: float = 0.05) -> None:
        self._pid = pid
        self._every_s = every_s
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mib = 0.0
        self.samples = 0

    def _watch(self) -> None:
        while not self._enough.wait(self._every_s):
            self.peak_mib = max(self.peak_mib, processes.proportional_kib(descendants(self._pid)) / 1024)
            self.samples += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._thread.join()
