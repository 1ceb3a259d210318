"""The catalog, as `media doctor` finds it, and the root that belongs to it."""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

from storage.backups.folder import BackupFolder
from storage.blobs.opening import open_blobs, read_owner
from storage.catalog.backup_notes import BackupNotes
from storage.catalog.database import check_makeable, identity, is_catalog, open_to_read
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.reports import Reports
from storage.catalog.sqlite_file import (
    LARGE_LOG,
    LARGE_LOG_WARNING,
    REWRITE,
    FileRoom,
    find_damage,
    log_bytes,
)
from storage.errors import (
    CatalogAway,
    CatalogDamaged,
    CatalogObsolete,
    CatalogTooNew,
    CatalogTooOld,
    StorageError,
)
from storage.keys import UPLOADS, plan_key, shown
from storage.totals import StorageTotals
from worker.adoption import ADOPTION, listing_of
from worker.amounts import counted, size
from worker.degradation import bad_copy, failed_backup, old_backup
from worker.doctor.broker import NOT_ASKED, RedisReport, check_messages, check_stream
from worker.doctor.files import check_room, check_root, to_be_made, write_probe
from worker.findings import Finding
from worker.settings import Settings

MUCH = 1024 * 1024 * 1024  # bytes that could be removed
NAMES_S = 5.0  # at most, to list the names of originals
_NAMED = 3  # damaged copies
CHECK_S = 10.0  # at most, for SQLite's check of the whole file
_ON_A_SERVER = "Check MEDIA_CATALOG_URL, and that its server runs, can be reached from here and takes writes."
_READERS = "To see who reads it: fuser {}-wal (package psmisc; on the host if workers run in containers)"


async def check_catalog(
    settings: Settings, redis: RedisReport = NOT_ASKED, *, as_worker: bool = True
) -> AsyncIterator[Finding]:
    """Check the catalog, then the storage root; compare both with what Redis answered.

    Not `as_worker`, what takes long or goes by settings of workers alone is left out.
    """
    path = settings.catalog_path
    try:
        if not await is_catalog(settings.catalog):
            yield await _to_be_made(settings)
            for finding in (
                *await check_root(settings, None),
                *check_stream(settings, redis, None, read_owner(settings.storage_url)),
            ):
                yield finding
            return
        async with open_catalog(settings.catalog, create=False) as catalog:
            await catalog.database.check_tables()
            if not settings.catalog.is_file:
                await catalog.database.check_writable()
            uploads = sum((await catalog.reports.states()).values())
            yield Finding("Catalog", "ok", f"{settings.catalog_name}, {counted(uploads, 'upload')}")
            for finding in await _check_file(path, catalog, as_worker) if settings.catalog.is_file else ():
                yield finding
            totals = await catalog.reports.totals()
            if as_worker and (growth := inspect_growth(totals, applied=settings.sweep_apply)):
                yield growth
            for finding in await check_root(settings, catalog):
                yield finding
            for finding in (
                *check_stream(settings, redis, catalog.id),
                *await check_messages(settings, redis, catalog),
            ):
                yield finding
            if found := await _check_names(settings, catalog, as_worker):
                yield found
            if as_worker and (found := await _check_backup(settings, catalog)):
                yield found
            swept = await catalog.sweeps.last()
            if swept is not None and swept.stopped:
                advice = (
                    f"Read the plan, {settings.storage}/{plan_key(swept.plan)} and the lists beside it; "
                    f"if it is right: media sweep apply {swept.plan} --force"
                    if swept.plan
                    else "Mend that, then have it made: media sweep"
                )
                yield Finding("Sweep", "warning", f"{swept.stops} stopped: {swept.stopped}", advice)
    except (CatalogTooOld, CatalogTooNew) as error:
        yield _of_another_version(error)
        async for finding in _read_on(settings, redis):
            yield finding
        if settings.catalog.is_file:
            yield _try_to_write(path.resolve())
            if as_worker:
                yield await _check_pages(path)
        for finding in await check_room(settings):
            yield finding
    except (StorageError, OSError) as error:
        on_a_server = _ON_A_SERVER if isinstance(error, CatalogAway) else ""  # others say what to do
        advice = _remedy(error, path) if settings.catalog.is_file else on_a_server
        yield Finding("Catalog", "error", str(error), advice)
        for finding in await check_room(settings):
            yield finding


def _of_another_version(error: CatalogTooOld | CatalogTooNew) -> Finding:
    if isinstance(error, CatalogTooOld):
        return Finding("Catalog", "warning", str(error), "media migrate, or start a worker of this version.")
    advice = (
        "Install the version that wrote it, or a newer one; or stop every worker, and go back to the copy "
        "from before: media migrate --back"
    )
    return Finding("Catalog", "error", str(error), advice)


async def _read_on(settings: Settings, redis: RedisReport) -> AsyncIterator[Finding]:
    """What can be said of a catalog of another version."""
    async with open_to_read(settings.catalog) as database:
        reports = Reports(database)
        uploads = sum((await reports.states()).values())
        yield Finding("Catalog rows", "ok", f"{settings.catalog_name}, {counted(uploads, 'upload')}")
        if growth := inspect_growth(await reports.totals(), applied=settings.sweep_apply):
            yield growth
        for finding in check_stream(settings, redis, (await identity(database))[0]):
            yield finding


async def _to_be_made(settings: Settings) -> Finding:
    if settings.catalog.is_file:
        return to_be_made("Catalog", settings.catalog_path, "MEDIA_CATALOG_URL")
    await check_makeable(settings.catalog)
    return Finding("Catalog", "ok", f"{settings.catalog_name} has no tables yet; the first worker makes them")


async def _check_file(path: Path, catalog: Catalog, read_all: bool) -> Sequence[Finding]:
    """What a file may suffer from that holds the catalog."""
    findings = [_try_to_write(path.resolve())]
    if read_all:
        findings.append(await _check_pages(path))
    if log_bytes(path.resolve()) > LARGE_LOG:
        findings.append(Finding("Catalog log", "warning", LARGE_LOG_WARNING, _READERS.format(path.resolve())))
    if (room := await catalog.database.room()) and (found := inspect_room(room, path)):
        findings.append(found)
    return findings


async def _check_names(settings: Settings, catalog: Catalog, may_list: bool) -> Finding | None:
    """Names below uploads/ that no event can carry: as the workers counted them when they last searched for
    originals, or, if they do not (MEDIA_ADOPT=off), as found within NAMES_S.
    """
    if settings.adopt == "off" and may_list:
        count, first = await _find_names(settings)
    else:
        listed = await listing_of(catalog, ADOPTION)
        count, first = listed.misnamed, listed.first_misnamed
    if not count:
        return None
    detail = f"{count} below uploads/ cannot be announced or adopted; the first is {first}"
    advice = "Rename them: UTF-8, no control characters, at most 1,024 bytes with all folders."
    return Finding("Names", "warning", detail, advice)


async def _check_backup(settings: Settings, catalog: Catalog) -> Finding | None:
    """Whether there is a sound backup that is not old, where workers are to make them."""
    if not settings.backup or not settings.backup_cron:
        return None
    notes, now_ms = BackupNotes(catalog.database), catalog.database.now_ms()
    made, since_ms = await notes.last(), await notes.expected_ms() or now_ms
    if failed := failed_backup(await notes.failed()):
        return Finding("Backup", "error", failed, "Mend that; then make one: media backup")
    if problem := bad_copy(await notes.checked()) or old_backup(made, settings.backup_cron, now_ms, since_ms):
        advice = "See backup_failed in the workers' logs; make one: media backup"
        return Finding("Backup", "warning", problem, advice)
    if damaged := _damaged_copies(settings):
        advice = "Look after the disk, then remove them: no backup does, and no restore takes one of them."
        detail = f"damaged, {len(damaged)} in all: {', '.join(damaged[-_NAMED:])}, in {settings.backup}"
        return Finding("Backup", "warning", detail, advice)
    if made is None:
        return Finding("Backup", "ok", f"the first one comes to {settings.backup} ({settings.backup_cron})")
    return Finding("Backup", "ok", f"the newest copy is {made.name} in {made.folder}")


def _damaged_copies(settings: Settings) -> Sequence[str]:
    """The names of copies that were found to be damaged, the newest last; none where nobody can say."""
    with suppress(OSError):
        return BackupFolder(Path(settings.backup)).damaged()
    return []


async def _find_names(settings: Settings) -> tuple[int, str]:
    found: list[str] = []
    with suppress(TimeoutError, StorageError):
        async with asyncio.timeout(NAMES_S), open_blobs(settings.storage_url, create=False) as blobs:
            async for _ in blobs.list(UPLOADS, on_misnamed=found.append):
                pass
    return len(found), shown(min(found, default=""))


async def _check_pages(path: Path) -> Finding:
    found = await find_damage(path, CHECK_S)
    if found is None:
        advice = f"To check all of it: {by_python(path, 'PRAGMA quick_check')}"
        return Finding("Catalog pages", "ok", f"no damage was found within {CHECK_S:.0f} s", advice)
    if found:
        return Finding("Catalog pages", "error", "; ".join(found), _cure(path))
    return Finding("Catalog pages", "ok", "all are sound")


def inspect_growth(totals: StorageTotals, *, applied: bool) -> Finding | None:
    """A warning if much of the storage could be removed and no worker removes it, else None."""
    found = totals.sweep.findings if totals.sweep else {}
    idle = {
        "superseded variants": totals.count("superseded").bytes,
        "orphans": found["orphan"].bytes if "orphan" in found else 0,
        "the trash": totals.sweep.trash.bytes if totals.sweep else 0,
    }
    used = totals.count("variant").bytes + totals.count("original").bytes
    if applied or sum(idle.values()) < max(MUCH, used // 10):
        return None
    amounts = ", ".join(f"{size(amount)} in {what}" for what, amount in idle.items() if amount)
    advice = "Run media sweep, then media sweep --apply and media sweep purge; or set MEDIA_SWEEP_APPLY=1."
    return Finding("Tidying", "warning", f"{amounts}, and no worker tidies up (MEDIA_SWEEP_APPLY=0)", advice)


def inspect_room(room: FileRoom, path: Path) -> Finding | None:
    """A finding if most of the catalog's file is unused, and how to return that to the disk; else None."""
    if not room.is_worth_a_rewrite:
        return None
    detail = f"{size(room.free_bytes)} of {size(room.free_bytes + room.used_bytes)} are free for new rows"
    if room.is_small:
        advice = "A worker returns them to the disk once no upload waits."
        return Finding("Catalog size", "ok", detail, advice)
    line = by_python(path, REWRITE)
    return Finding(
        "Catalog size",
        "warning",
        detail,
        f"To return them to the disk (it takes {size(room.used_bytes)} of memory, and of room beside the "
        f"file) stop the workers, and then: {line}",
    )


def _try_to_write(path: Path) -> Finding:
    """Whether a worker could write the catalog; nothing is written to the catalog itself."""
    beside = [path.with_name(path.name + ending) for ending in ("-wal", "-shm")]
    shut = [one for one in (path, *beside) if one.exists() and not os.access(one, os.W_OK)]
    if not os.access(path.parent, os.W_OK | os.X_OK):
        shut.append(path.parent)
    if shut:
        detail = f"{', '.join(map(str, shut))} cannot be written by the user {os.geteuid()}"
        advice = "Give that user the right to write, or mount the file system for writing."
        return Finding("Catalog writing", "error", detail, advice)
    try:
        write_probe(path.parent)
    except OSError as error:
        return Finding(
            "Catalog writing", "error", f"{path.parent}: {error.strerror}", "Make room on its disk."
        )
    return Finding("Catalog writing", "ok", "the file and its folder can be written")


def _remedy(error: Exception, path: Path) -> str:
    match error:
        case CatalogDamaged():
            return _cure(path)
        case CatalogObsolete():
            return f"Move {path} away, with {path.name}-wal and {path.name}-shm; then: media rebuild."
    return f"Check that {path} is what MEDIA_CATALOG_URL should name, and that it can be opened."


def _cure(path: Path) -> str:
    return (
        "Stop the workers, and restore a backup (media restore). Without one, save what can be read "
        f"(sqlite3 {path} .recover | sqlite3 new.db, with the program of the package sqlite3, here or on "
        "another machine) and put new.db in its place; if that fails: media rebuild."
    )


def by_python(path: Path, sql: str) -> str:
    """A line for a shell that runs `sql` on the catalog: not every system has the program sqlite3."""
    call = "executescript" if ";" in sql else "execute"
    code = f"import sqlite3; print(*sqlite3.connect({str(path)!r}).{call}({sql!r}))"
    return f"python3 -c {shlex.quote(code)}"
