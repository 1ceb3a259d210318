"""Control groups: memory and CPU of everything that starts inside are bounded by the kernel."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1024 * 1024
_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000


class NoCgroupsError(RuntimeError):
    """This machine lets us make no control groups for memory and CPU."""


class Cgroup:
    """Nested control groups with one limit; made by `open_cgroup`."""

    def __init__(self, folders: Sequence[Path], peak: str, events: str) -> None:
        self._folders = folders
        self._memory = folders[0]
        self._peak = peak
        self._events = events

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in the groups, under the same pid."""
        joins = " && ".join(f"echo $$ > {folder}/cgroup.procs" for folder in self._folders)
        return ["/bin/sh", "-c", f'{joins} && exec "$@"', "limited", *command]

    def pids(self) -> list[int]:
        """Who is inside now."""
        return [int(word) for word in (self._memory / "cgroup.procs").read_text().split()]

    @property
    def peak_mib(self) -> float:
        """The most memory that was ever charged, page cache included."""
        return int((self._memory / self._peak).read_text()) / MIB

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for memory."""
        found = re.search(r"^oom_kill (\d+)$", (self._memory / self._events).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0


@contextmanager
def open_cgroup(memory_mib: int, cpus: float) -> Iterator[Cgroup]:
    """Control groups of that size, removed at the end. Raises: NoCgroupsError."""
    name = f"media-worker-{os.getpid()}-{time.monotonic_ns()}"
    second = (_ROOT / "cgroup.controllers").exists()
    folders = [_ROOT / name] if second else [_ROOT / "memory" / name, _ROOT / "cpu" / name]
    try:
        with suppress(FileExistsError):
            for folder in folders:
                folder.mkdir()
        if second:
            (_ROOT / name / "memory.max").write_text(str(memory_mib * MIB))
            (_ROOT / name / "cpu.max").write_text(f"{int(cpus * _PERIOD_US)} {_PERIOD_US}")
        else:
            (folders[0] / "memory.limit_in_bytes").write_text(str(memory_mib * MIB))
            (folders[1] / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (folders[1] / "cpu.cfs_quota_us").write_text(str(int(cpus * _PERIOD_US)))
    except OSError as error:
        _remove(folders)
        raise NoCgroupsError(f"no control groups for memory and CPU can be made here: {error}") from error
    try:
        yield (
            Cgroup(folders, "memory.peak", "memory.events")
            if second
            else Cgroup(folders, "memory.max_usage_in_bytes", "memory.oom_control")
        )
    finally:
        _remove(folders)


def _remove(folders: Sequence[Path]) -> None:
    until = time.monotonic() + 5
    for folder in folders:
        while folder.exists() and time.monotonic() < until:
            with suppress(OSError):  # whoever was killed may still be on the way out
                folder.rmdir()
                break
            time.sleep(0.02)


@contextmanager
def no_more_threads(*pids: int) -> Iterator[None]:
    """This process and those with `pids` may start no more threads and processes.

    Raises: NoCgroupsError.
    """
    top = _ROOT if (_ROOT / "cgroup.controllers").exists() else _ROOT / "pids"
    home = _here("" if top == _ROOT else "pids", top)
    folder = top / f"media-worker-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir()
        for mine in (os.getpid(), *pids):
            (folder / "cgroup.procs").write_text(str(mine))
        (folder / "pids.max").write_text("1")  # below what there is: a thread that ends makes no room
    except OSError as error:
        if folder.exists():
            (home / "cgroup.procs").write_text(str(os.getpid()))
        _remove([folder])
        raise NoCgroupsError(f"no control group for processes can be made here: {error}") from error
    try:
        yield
    finally:
        (folder / "pids.max").write_text("max")
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (home / "cgroup.procs").write_text(pid)
        _remove([folder])


def _here(controller: str, top: Path) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return top / path.lstrip("/")
    raise NoCgroupsError(f"this process is in no control group for {controller or 'anything'}")
