"""What people see of `media stats`."""

import asyncio
import shutil
from pathlib import Path
from uuid import UUID

import pytest
import typer

from scripts import storage_stats
from storage.blobs.opening import open_blobs
from storage.catalog.opening import open_catalog
from tests.support.catalogs import take, upload_event


@pytest.fixture
def url(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new catalog, which the command reports, without Redis."""
    url = f"sqlite+aiosqlite:///{shutil.copy(migrated, tmp_path / 'catalog.db')}"
    monkeypatch.setenv("MEDIA_CATALOG_URL", url)
    monkeypatch.setenv("MEDIA_STORAGE_URL", f"file:{tmp_path}")
    monkeypatch.setenv("MEDIA_REDIS_URL", f"unix://{tmp_path}/nobody")
    return url


def test_the_reason_of_a_stop_is_shown_as_it_is_whatever_a_file_is_called(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def a_stop() -> None:
        async with open_catalog(url) as catalog:
            await catalog.sweeps.note_stop("variants/[/red]\x1b[2J: Permission denied")

    asyncio.run(a_stop())
    with pytest.raises(typer.Exit) as ended:
        storage_stats.command()

    assert ended.value.exit_code == 0
    assert r"variants/[/red]\x1b[2J: Permission denied" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scan", "hint"), [(False, "`media stats --scan` counts"), (True, "the folder uploads/ below has")]
)
def test_uploads_whose_originals_are_not_counted_are_told_with_who_counts_them(
    scan: bool, hint: str, url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def uploads() -> None:
        async with open_catalog(url) as catalog, open_blobs(f"file:{tmp_path}", create=True) as blobs:
            await blobs.bind(catalog.id, catalog_is_new=True)
            await take(catalog, *(upload_event(1, UUID(int=at), f"uploads/{at}") for at in range(2)))

    asyncio.run(uploads())
    with pytest.raises(typer.Exit):
        storage_stats.command(scan=scan)

    told = f"2 uploads have never been ready: their originals are not counted here; {hint} every file."
    assert told in " ".join(capsys.readouterr().out.split())
