"""Small hosts: each has a small part of a core, so that several of them fit on a machine with few cores."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from bench.contenders import BenchError

_ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 10_000  # with the usual 100 ms a process would stand still ten times as long, with its locks
_REMOVED_WITHIN_S = 5.0


class NoSmallHostsError(BenchError):
    """This machine lets us make no control groups for CPU."""


class SmallHost:
    """A control group for CPU; made by `open_small_host`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def move_here(self, pid: int) -> None:
        """From now on that process has the host's CPU and no more."""
        (self._folder / "cgroup.procs").write_text(str(pid))


@contextmanager
def open_small_host(cores: float) -> Iterator[SmallHost]:
    """A host with that part of a core, gone at the end. Raises: NoSmallHostsError."""
    second = (_ROOT / "cgroup.controllers").exists()
    folder = (_ROOT if second else _ROOT / "cpu") / f"media-bench-{uuid4().hex}"
    quota_us = int(cores * _PERIOD_US)
    try:
        folder.mkdir()
        if second:
            (folder / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        else:
            (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
    except OSError as error:
        _remove(folder)
        raise NoSmallHostsError(f"no control group for CPU can be made here: {error}") from error
    try:
        yield SmallHost(folder)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    until = time.monotonic() + _REMOVED_WITHIN_S
    while folder.exists() and time.monotonic() < until:
        with suppress(OSError):  # whoever was killed may still be on the way out
            folder.rmdir()
            return
        time.sleep(0.02)
