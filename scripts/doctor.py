"""`media doctor`: looks at everything that a worker stands on, and says what to do about what is wrong."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from pipelines.errors import DecoderUnavailable
from pipelines.formats import FORMATS, MIB
from pipelines.sandbox import open_sandbox
from pipelines.sandbox.answers import Hello
from scripts.terminal import AsJson, output, print_json, run, safe, size
from storage import keys
from storage.blobs.local import open_local
from storage.catalog import Catalog, open_catalog
from storage.errors import StorageError
from worker.app import allowance
from worker.health import Finding, judge_redis
from worker.queue import UNREACHABLE, RedisError, open_queue
from worker.settings import Settings, available_cpus, unknown_variables

LITTLE_ROOM = 1024 * MIB
_PROBE = 4096  # bytes written to see whether writing works
_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


def command(as_json: AsJson = False) -> None:
    """Check Redis, catalog, storage root, decoders and limits."""

    async def body(settings: Settings) -> int:
        findings = [finding async for finding in examine(settings)]
        if as_json:
            print_json([vars(finding) for finding in findings])
        else:
            for finding in findings:
                _print(finding)
        return 1 if any(finding.level == "error" for finding in findings) else 0

    run(body)


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Look at each thing in turn; what is broken keeps nothing else from being looked at."""
    for finding in await _redis(settings):
        yield finding
    async for finding in _storage(settings):
        yield finding
    for finding in await _decoders(settings):
        yield finding
    yield _limits(settings)
    for finding in _variables():
        yield finding


async def _redis(settings: Settings) -> Sequence[Finding]:
    try:
        async with open_queue(settings) as queue:
            return judge_redis(await queue.facts())
    except (*UNREACHABLE, RedisError) as error:
        advice = "Start Redis, or correct MEDIA_REDIS_URL."
        return [Finding("Redis", "error", f"does not answer: {error}", advice)]


async def _storage(settings: Settings) -> AsyncIterator[Finding]:
    path = settings.catalog_path
    try:
        if not path.exists():
            yield _to_be_made("Catalog", path, "MEDIA_CATALOG_URL")
            for finding in await _root(settings, None):
                yield finding
            return
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            uploads = sum((await catalog.reports.states()).values())
            yield Finding("Catalog", "ok", f"{path}, {uploads} uploads")
            for finding in await _root(settings, catalog):
                yield finding
            swept = await catalog.sweeps.last()
            if swept is not None and swept.stopped:
                advice = f"Look at it; where it is right after all: media sweep --force {swept.plan}"
                yield Finding("Sweep", "warning", f"{swept.stops} stopped: {swept.stopped}", advice)
    except (StorageError, OSError) as error:
        advice = "See MEDIA_CATALOG_URL, and restore the file if it is damaged."
        yield Finding("Catalog", "error", str(error), advice)
        for finding in await _room(settings):
            yield finding


def _to_be_made(what: str, path: Path, named_by: str) -> Finding:
    there = next(folder for folder in path.parents if folder.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding(what, "ok", f"{path} does not exist yet; the first worker makes it")
    advice = f"Let the user {os.geteuid()} make it, or correct {named_by}."
    return Finding(what, "error", f"{path} does not exist, and cannot be made in {there}", advice)


async def _root(settings: Settings, catalog: Catalog | None) -> Sequence[Finding]:
    """Whether the root is there, belongs to the catalog, and takes files; nothing of it is changed."""
    root = settings.storage_root
    first_start = catalog is None or catalog.is_new
    if not root.exists():
        if first_start:
            return [_to_be_made("Storage root", root, "MEDIA_STORAGE_URL")]
        advice = "Mount the disk, or correct MEDIA_STORAGE_URL: the catalog describes another root."
        return [Finding("Storage root", "error", f"{root} does not exist", advice)]
    used = [name for name in (keys.MARKER, keys.VARIANTS) if (root / name).exists()]
    if first_start and used:
        detail = f"{root} has {used[0]} already, and there is no catalog that describes it"
        advice = "Correct MEDIA_CATALOG_URL, or restore the catalog; if it is lost: media rebuild."
        return [Finding("Storage root", "error", detail, advice), *await _room(settings)]
    if catalog is not None and not first_start:
        try:
            async with open_local(root, create=False) as blobs:
                blobs.bind(catalog.id, catalog_is_new=False)
        except StorageError as error:
            advice = "Mount the disk, or correct MEDIA_STORAGE_URL and MEDIA_CATALOG_URL."
            return [Finding("Storage root", "error", str(error), advice), *await _room(settings)]
    return [Finding("Storage root", "ok", str(root)), *await _room(settings)]


async def _room(settings: Settings) -> Sequence[Finding]:
    """Whether files can really be written, and how much room there is."""
    root = settings.storage_root
    if not root.is_dir():
        return []
    try:
        await _write(root)
    except (StorageError, OSError) as error:
        advice = f"Let the user {os.geteuid()} make files and folders in {root}."
        return [Finding("Writing", "error", f"{error}", advice)]
    free = shutil.disk_usage(root).free
    short = free < LITTLE_ROOM
    return [
        Finding("Writing", "ok", "a file was written and removed"),
        Finding(
            "Free space",
            "warning" if short else "ok",
            size(free),
            "Make room: a full disk stops every upload." if short else None,
        ),
    ]


async def _write(root: Path) -> None:
    with tempfile.TemporaryFile(dir=root) as file:  # nameless, so that even a crash leaves nothing
        file.write(bytes(_PROBE))
        file.flush()
        os.fsync(file.fileno())
    if (root / keys.STAGING).exists():  # as long as there is none, the first worker makes it
        async with open_local(root, create=False) as blobs, blobs.stage(1) as [staged]:
            os.write(staged.fd, bytes(_PROBE))
            os.fsync(staged.fd)
    if (root / keys.VARIANTS).exists() and not os.access(root / keys.VARIANTS, os.W_OK | os.X_OK):
        raise PermissionError(f"{root / keys.VARIANTS} cannot be written")


async def _decoders(settings: Settings) -> Sequence[Finding]:
    try:
        async with open_sandbox(allowance(settings)) as sandbox:
            hellos = [await sandbox.greet(engine) for engine in ("vips", "pillow")]
            budget = sandbox.most
    except DecoderUnavailable as error:
        return [Finding("Decoders", "error", str(error), "Install the package again: a library is missing.")]
    accepted = [known for known in FORMATS if known.name in settings.formats]
    reach = ", ".join(f"{known.title} (to {known.reach(budget, settings.max_pixels)})" for known in accepted)
    return [
        Finding("Decoders", "ok", "; ".join(hello.version for hello in hellos)),
        _judge_confinement(hellos),
        Finding("Formats", "ok", reach),
    ]


def _judge_confinement(hellos: Sequence[Hello]) -> Finding:
    files_closed = all(hello.files_closed for hello in hellos)
    calls_closed = all(hello.calls_closed for hello in hellos)
    if files_closed and calls_closed:
        detail = "a decoder can open no file and no socket, and start no process"
        return Finding("Confinement", "ok", detail)
    lacks = [name for name, closed in (("Landlock", files_closed), ("seccomp", calls_closed)) if not closed]
    left = [
        *([] if files_closed else ["open files"]),
        *([] if calls_closed else ["open sockets and start processes"]),
    ]
    return Finding(
        "Confinement",
        "warning",
        f"there is no {' and no '.join(lacks)}: a decoder can {' and '.join(left)}",
        "Use Linux 5.13 or newer with both, on x86-64 or arm64, and a container that allows them.",
    )


def _limits(settings: Settings) -> Finding:
    detail = (
        f"{settings.decoders} decoders for {available_cpus()} CPUs, "
        f"{settings.memory_mb} MiB for the process tree"
    )
    if settings.decoders < settings.cpus:
        return Finding("Limits", "ok", f"{detail}; more decoders need a larger MEDIA_MEMORY_MB")
    return Finding("Limits", "ok", detail)


def _variables() -> Sequence[Finding]:
    return [
        Finding(
            "Settings",
            "warning",
            f"there is no setting {unknown}",
            f"Did you mean {nearest}?" if nearest else "The README lists them all.",
        )
        for unknown, nearest in unknown_variables().items()
    ]


def _print(finding: Finding) -> None:
    color = _COLORS[finding.level]
    output.print(
        f"[{color}]{finding.level:>7}[/{color}]  [bold]{finding.what}[/bold]: {safe(finding.detail)}"
    )
    if finding.advice:
        output.print(f"         {safe(finding.advice)}")
