"""A full disk: uploads wait for room, and no picture fails for it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.workplace import Workplace, database_on

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB; only root can make one."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(filler: Path, leave: int) -> None:
    """Nobody may write before there is no room at all: how much is free is not to be trusted."""
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(64 * 1024)):
                pass
        file.truncate(file.tell() - leave)


def test_an_upload_that_meets_a_full_disk_is_ready_once_there_is_room(
    redis_server: RedisServer, small_disk: Path, tmp_path: Path
) -> None:
    place = Workplace(small_disk, database_on(redis_server.url))
    place.put("uploads/cat.jpg", pictures.medium(5))
    worker = place.start(MEDIA_CATALOG_URL=f"sqlite+aiosqlite:///{tmp_path / 'catalog.db'}")
    filler = small_disk / "filler"
    _fill(filler, leave=40_000)
    place.send({"source": "uploads/cat.jpg"})
    worker.await_log("upload_not_ready")
    waiting = [line["code"] for line in worker.logged("upload_not_ready")]
    filler.unlink()

    answer = place.await_end_of("uploads/cat.jpg")

    place.close()
    assert set(waiting) == {"storage_full"}
    assert answer["uploads/cat.jpg"]["type"] == "upload.ready"
