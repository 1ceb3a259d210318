"""Who may read a catalog: its owner and the group, for metadata and refused bytes are in it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.catalog.opening import open_catalog
from tests.conftest import url_of


@pytest.fixture(params=[0o022, 0o002, 0o000, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


async def test_a_new_catalog_and_its_log_are_nobody_elses_to_read(tmp_path: Path, umask: int) -> None:
    async with open_catalog(url_of(tmp_path / "catalog.db")):
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}

    assert modes == dict.fromkeys(("catalog.db", "catalog.db-wal", "catalog.db-shm"), 0o640 & ~umask)


async def test_the_mode_that_an_operator_has_given_a_catalog_stays(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    async with open_catalog(url_of(path)):
        pass
    path.chmod(0o600)
    async with open_catalog(url_of(path)):
        log = path.with_name("catalog.db-wal")

        assert (path.stat().st_mode & 0o777, log.stat().st_mode & 0o777) == (0o600, 0o600)
