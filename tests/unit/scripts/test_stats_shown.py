"""What people see of `media stats`."""

import asyncio
import shutil
from pathlib import Path

import pytest
import typer

from scripts import storage_stats
from storage.catalog.opening import open_catalog


def test_the_reason_of_a_stop_is_shown_as_it_is_whatever_a_file_is_called(
    migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite+aiosqlite:///{shutil.copy(migrated, tmp_path / 'catalog.db')}"
    monkeypatch.setenv("MEDIA_CATALOG_URL", url)
    monkeypatch.setenv("MEDIA_STORAGE_URL", f"file:{tmp_path}")
    monkeypatch.setenv("MEDIA_REDIS_URL", f"unix://{tmp_path}/nobody")

    async def a_stop() -> None:
        async with open_catalog(url) as catalog:
            await catalog.sweeps.note_stop("variants/[/red]\x1b[2J: Permission denied")

    asyncio.run(a_stop())
    with pytest.raises(typer.Exit) as ended:
        storage_stats.command()

    assert ended.value.exit_code == 0
    assert r"variants/[/red]\x1b[2J: Permission denied" in capsys.readouterr().out
