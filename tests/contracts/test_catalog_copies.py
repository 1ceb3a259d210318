"""A copy is one moment of a catalog, of whatever kind, while others write it."""

import asyncio
import gzip
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert

from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.making import check_copy, make_copy
from storage.catalog.backup_notes import BackupChecked, BackupMade, BackupNotes
from storage.catalog.opening import Catalog
from storage.catalog.tables import outbox
from storage.errors import CopyDamaged
from tests.support.catalogs import CAT, ON_BOTH, take, upload_event, work
from tests.support.disks import fill, small_disk

pytestmark = ON_BOTH


async def copied(catalog: Catalog, path: Path) -> BackupCopy:
    folder = BackupFolder(path / "backup")
    with folder.alone():
        return await make_copy(catalog.database, folder, "1.2.3")


async def test_a_copy_has_what_was_committed(catalog: Catalog, tmp_path: Path) -> None:
    await take(catalog, upload_event(5, said='tab\t, line\n, back\\slash, "quote" and ünïcode'))
    await work(catalog)

    copy = await copied(catalog, tmp_path)

    assert (copy.manifest.catalog, copy.manifest.seq) == (catalog.id, 1)
    assert {name: copy.manifest.rows[name] for name in ("uploads", "variants", "outbox")} == {
        "uploads": 1,
        "variants": 2,
        "outbox": 1,
    }
    await check_copy(copy)


async def test_a_copy_beside_writers_is_of_one_moment(catalog: Catalog, tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def write() -> None:
        while not ended.is_set():
            upload_id = uuid4()
            await take(catalog, upload_event(5, upload_id, f"uploads/{upload_id}"))
            await work(catalog, UUID(str(upload_id)))

    writing = [asyncio.create_task(write()) for _ in range(2)]
    copies = [await copied(catalog, tmp_path) for _ in range(3)]
    ended.set()
    await asyncio.gather(*writing)

    for copy in copies:
        await check_copy(copy)
        rows, ready = copy.manifest.rows, copy.manifest.uploads.get("ready", 0)
        assert copy.manifest.wrong_totals == 0
        assert (rows["variants"], rows["outbox"]) == (2 * ready, ready)
        assert copy.manifest.seq >= ready
    assert copies[0].manifest.rows["uploads"] < copies[-1].manifest.rows["uploads"]


async def test_a_copy_that_ends_too_early_or_was_changed_is_damaged(catalog: Catalog, tmp_path: Path) -> None:
    await take(catalog, upload_event(5))
    copy = await copied(catalog, tmp_path)
    whole = copy.file.read_bytes()
    for bad in (whole[: len(whole) // 2], whole[:-9] + bytes(9), b"", b"nonsense"):
        copy.file.write_bytes(bad)
        with pytest.raises(CopyDamaged, match="is damaged"):
            await check_copy(copy)


async def test_a_number_of_a_message_that_is_not_committed_is_given_and_no_message(
    catalog: Catalog, tmp_path: Path, database_kind: str
) -> None:
    await take(catalog, upload_event(5))
    await work(catalog)
    if database_kind == "sqlite":  # where nobody reads before a writer has committed
        await catalog.outbox.begin_above(2)
        copy = await copied(catalog, tmp_path)
    else:
        async with catalog.database.writing() as connection:
            await connection.execute(insert(outbox).values(body="{}", made_ms=0))
            copy = await copied(catalog, tmp_path)

    assert (copy.manifest.message, copy.manifest.seq) == (1, 2)


async def test_the_catalog_remembers_the_newest_copy_and_what_a_check_found(catalog: Catalog) -> None:
    notes = BackupNotes(catalog.database)
    assert (await notes.last(), await notes.checked()) == (None, None)
    made, checked = BackupMade(1, "/backup", "2026", 10, 5), BackupChecked(2, "2026", "it is damaged")

    await notes.note(made)
    await notes.note_check(checked)

    assert (await notes.last(), await notes.checked()) == (made, checked)


async def test_rows_are_written_so_that_nobody_needs_another_program_to_read_them(
    catalog: Catalog, tmp_path: Path, database_kind: str
) -> None:
    await take(catalog, upload_event(5))
    copy = await copied(catalog, tmp_path)

    if database_kind == "sqlite":
        assert copy.file.read_bytes().startswith(b"SQLite format 3\0")
    else:
        lines = gzip.decompress(copy.file.read_bytes()).splitlines()
        assert str(CAT).encode() in next(line for line in lines if b"uploads/2026" in line)
        assert lines.count(b"\\.") == len(copy.manifest.rows)


async def test_a_full_disk_leaves_no_copy_and_says_so(catalog: Catalog, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as disk:
        (disk / "backup").mkdir()
        fill(disk / "filler")
        with pytest.raises(Exception, match=r"no room for a copy .*in .*small"):
            await copied(catalog, disk)
        assert BackupFolder(disk / "backup").copies() == []
