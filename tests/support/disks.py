"""Disks of a test's own: small ones, which fill, and can be mounted for reading only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30


def quickest_disk() -> Path | None:
    """Where files take least time that no test looks at: in memory, where that has much room; None: anywhere.

    To copy a database takes five times as long on a disk.
    """
    has_room = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if has_room else None


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A file system of that size at `folder`; only root can make one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    mounting: list[str | Path] = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder]
    mounted = subprocess.run(mounting, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def bound(folder: Path, to: Path) -> Iterator[None]:
    """The folder `folder` mounted at `to`, too, as a container has it; only root can do that."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a folder needs root")
    to.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "--bind", folder, to], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no folder can be mounted here: {mounted.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", to], check=True)


def fill(filler: Path) -> None:
    """Write until there is no room at all."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def make_read_only(folder: Path) -> None:
    """From now on nothing can be written there; nobody may have a file open for writing."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
