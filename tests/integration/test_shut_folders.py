"""Folders that the worker's user may not enter: each is reported by name, and none as a fault of Redis."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from scripts.storage_stats import room, stored
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog
from storage.errors import CatalogUnavailable, StorageError
from tests.support.rights import without_roots_rights
from worker.doctor.rows import check_catalog
from worker.queue import QueueUnavailable
from worker.queue.mapping import OF_A_CONNECTION, mapped
from worker.settings import Settings
from worker.stores import open_stores
from worker.supervise import _outage


@pytest.fixture(params=["catalog", "storage", "both"])
def shut(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Settings, Path]]:
    """Settings of which something lies in a folder that may not be entered, and that folder."""
    folder = tmp_path / "shut"
    folder.mkdir()
    there = {"catalog": tmp_path, "storage": tmp_path}
    there |= dict.fromkeys(there, folder) if request.param == "both" else {request.param: folder}
    settings = Settings(
        redis_url="redis://localhost:1/0",
        catalog_url=f"sqlite+aiosqlite:///{there['catalog']}/catalog.db",
        storage_url=f"file:{there['storage']}/media",
    )
    folder.chmod(0)
    with without_roots_rights():
        yield settings, folder
    folder.chmod(0o755)


@pytest.mark.parametrize("create", [True, False])
async def test_a_folder_that_may_not_be_entered_is_named_and_nothing_is_made(
    shut: tuple[Settings, Path], tmp_path: Path, *, create: bool
) -> None:
    settings, folder = shut
    catalog_is_shut = settings.catalog_path.parent == folder
    reason = f"may not enter {folder}" if create or catalog_is_shut else "There is no catalog"
    with pytest.raises(StorageError, match=reason) as caught:
        async with open_stores(settings, create=create):
            pass

    assert isinstance(caught.value, CatalogUnavailable) == catalog_is_shut
    assert [path.name for path in tmp_path.iterdir()] == ["shut"]


async def test_a_report_names_a_folder_that_may_not_be_entered(shut: tuple[Settings, Path]) -> None:
    settings, folder = shut
    if settings.catalog_path.parent == folder:
        with pytest.raises(CatalogUnavailable, match=f"may not enter {folder}"):
            await stored(settings)
    assert await room(settings) is None


async def test_the_doctor_names_a_folder_that_may_not_be_entered_and_looks_at_the_rest(
    shut: tuple[Settings, Path],
) -> None:
    settings, folder = shut

    findings = [finding async for finding in check_catalog(settings)]

    errors = {finding.what: finding.detail for finding in findings if finding.level == "error"}
    lies_there = {"Catalog": settings.catalog_path, "Storage root": settings.storage_root}
    assert errors.keys() == {what for what, path in lies_there.items() if path.parent == folder}
    assert all(f"may not enter {folder}" in detail for detail in errors.values())
    assert {finding.what for finding in findings} >= {"Catalog", "Storage root"} or "Catalog" in errors


@pytest.mark.parametrize("name", [".", "uploads", "trash"])
async def test_the_doctor_names_a_folder_of_the_storage_that_may_not_be_entered(
    catalog: Catalog, catalog_url: str, local_blobs: LocalBlobs, root: Path, tmp_path: Path, name: str
) -> None:
    await local_blobs.bind(catalog.id, catalog_is_new=True)
    await catalog.database.mark_bound()
    shut = tmp_path / "shut"
    (shut / "folder").mkdir(parents=True)
    if name == ".":
        shut = root
    else:
        (root / name).symlink_to(shut / "folder")
    settings = Settings(
        redis_url="redis://localhost:1/0", catalog_url=catalog_url, storage_url=f"file:{root}"
    )
    shut.chmod(0)

    with without_roots_rights():
        findings = [finding async for finding in check_catalog(settings)]
    shut.chmod(0o755)

    errors = {finding.what: finding.detail for finding in findings if finding.level == "error"}
    assert f"may not enter {shut}" in errors["Storage root" if name == "." else f"Folder {name}/"]
    assert "Catalog" in {finding.what for finding in findings} - errors.keys()


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (PermissionError(13, "Permission denied", "/srv/media"), "cannot_start"),
        (FileNotFoundError(2, "No such file", "/srv/media"), "cannot_start"),
        (OSError(5, "Input/output error"), "cannot_start"),
        (ConnectionRefusedError(111, "Connection refused"), "redis_unavailable"),
        (TimeoutError(), "redis_unavailable"),
        (RedisError("away"), "redis_unavailable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_only_what_comes_from_redis_is_reported_as_a_redis_that_is_away(error: Exception, event: str) -> None:
    with pytest.raises((QueueUnavailable, OSError)) as ended, mapped(OF_A_CONNECTION):
        raise error

    assert _outage(ended.value)[0] == event
