"""Processes as /proc shows them: whose they are, whether they live, what they take."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path


def _all() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def lives(pid: int) -> bool:
    """Whether there is such a process that is more than a zombie."""
    state = _read(pid, "stat").rpartition(b")")[2].split()
    return bool(state) and state[0] != b"Z"


def is_frozen(pid: int) -> bool:
    """Whether every thread has stopped: after SIGSTOP another CPU may run one of them for a moment."""
    tasks = [found.name for found in Path(f"/proc/{pid}/task").iterdir()]
    return all(_read(pid, f"task/{task}/stat").rpartition(b")")[2].split()[:1] == [b"T"] for task in tasks)


def decoders_of(pid: int) -> list[int]:
    """The decoders of the worker `pid`, without what they are forked from; all, when it has died."""
    return [found for found in children_of(pid) if _parent_of(found) != pid]


def children_of(pid: int) -> list[int]:
    """The decoders of the worker `pid`, and the process that they are forked from."""
    mine = re.compile(rb'"parent":\s*%d\b' % pid)
    return [found for found in _all() if mine.search(_read(found, "cmdline")) and lives(found)]


def _parent_of(pid: int) -> int:
    return int((_read(pid, "stat").rpartition(b")")[2].split() or [b"", b"0"])[1])


def proportional_kib(pids: Iterable[int]) -> int:
    """The memory of those processes, shared pages counted once (PSS), in KiB."""
    total = 0
    for pid in pids:
        found = re.search(rb"^Pss:\s+(\d+)", _read(pid, "smaps_rollup"), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total
