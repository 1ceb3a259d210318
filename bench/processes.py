"""Processes as /proc shows them: the members of a tree, and what they cost."""

import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(rb"^Pss:\s+(\d+)", re.MULTILINE)
_WRITTEN = re.compile(rb"^write_bytes: (\d+)", re.MULTILINE)


def tree(root: int) -> Sequence[int]:
    """`root` and all processes that it and its children have started."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields:
            children[int(fields[1])].append(int(path.name))
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return found


def cpu_ms(pid: int) -> float:
    """CPU time of a process and of its children that have ended, in ms; 0 for a process that has ended."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) * 1000 / _TICK if fields else 0.0


def kernel_ms(pid: int) -> float:
    """How much of that the kernel has spent for them."""
    fields = _stat(pid)
    return sum(map(int, fields[12:15:2])) * 1000 / _TICK if fields else 0.0


def memory(pids: Collection[int]) -> int:
    """Resident bytes, pages that several processes share divided among them (PSS)."""
    found = (_PSS.search(_read(pid, "smaps_rollup")) for pid in pids)
    return sum(int(match[1]) * 1024 for match in found if match)


def bytes_written(pids: Collection[int]) -> int:
    """Bytes that these processes have caused to be sent to a disk."""
    found = (_WRITTEN.search(_read(pid, "io")) for pid in pids)
    return sum(int(match[1]) for match in found if match)


def descriptors(pids: Collection[int]) -> int:
    """Open descriptors of these processes."""
    count = 0
    for pid in pids:
        try:
            count += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
    return count


def busy_ms(cores: Collection[int]) -> float:
    """The time that these cores have spent on anybody's work since the machine was started, in ms."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            total += user + nice + system + irq + softirq + steal
    return total * 1000 / _TICK


class Costs:
    """CPU time of some trees of processes, by name, since it was made."""

    def __init__(self, roots: Mapping[str, int], spent: Callable[[int], float] = cpu_ms) -> None:
        self._roots = roots
        self._spent = spent
        self._before = self._now()

    def so_far(self) -> Mapping[str, float]:
        """CPU ms by the name of the process that spent them; children are named after their root."""
        now = self._now()
        return {name: round(now[name] - self._before.get(name, 0.0), 1) for name in now}

    def _now(self) -> dict[str, float]:
        spent = {}
        for name, root in self._roots.items():
            first, *others = tree(root)
            spent[name] = self._spent(first)
            if others:
                spent[f"{name}: children"] = sum(map(self._spent, others))
        return spent


class Peak:
    """The peak memory of a tree of processes, sampled by a thread."""

    def __init__(self, root: int, every_s: float = 0.1) -> None:
        self.bytes = 0
        self._root = root
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        pids, listed = tree(self._root), time.monotonic()
        while not self._ended.wait(self._every_s):
            if time.monotonic() - listed > 1:
                pids, listed = tree(self._root), time.monotonic()
            self.bytes = max(self.bytes, memory(pids))

    @contextmanager
    def watched(self) -> Iterator["Peak"]:
        """Sample while the body runs."""
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._thread.join()
            self.bytes = max(self.bytes, memory(tree(self._root)))


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Whatever the body starts runs on `cores` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on."""
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
