"""`media copy-blobs`: copies the storage to another place while workers run, and then moves there."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Annotated

import typer
from rich.filesize import decimal as size

from scripts.progress import Progress
from scripts.targets import with_target
from scripts.terminal import AsJson, CommandError, counted, output, print_error, print_json, run, table
from storage.blobs import Storage
from storage.blobs.copy_notes import CopyNotes
from storage.blobs.copying import BlobCopy, CopyStep, Extra, check_target
from storage.blobs.extras import Extras, ExtraStep
from storage.blobs.opening import open_blobs
from storage.blobs.owners import moved, unfinished
from storage.blobs.places import holding_area, is_one_place
from storage.catalog.kv import Checkpoint
from storage.catalog.opening import Catalog
from storage.keys import UPLOADS, VARIANTS, shown
from worker.queue import open_queue
from worker.settings import Settings
from worker.stores import Stores, open_stores

_SHOWN = 20  # blobs that could not be copied, or are extra
_PAGE = 500  # keys of the catalog
_LISTED = 10_000  # at most, in the JSON


@dataclass
class Copied:
    """How much was copied (or would be), was there already, and left the copy for its trash again.

    `extra` counts the originals that the target has otherwise, or that it alone has, and that no copy wrote.
    """

    to: str
    finished: bool = False
    copied: int = 0
    bytes: int = 0
    same: int = 0
    removed: int = 0
    misnamed: int = 0
    extra: int = 0
    extras: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, step: CopyStep) -> None:
        """Count a step in."""
        self.copied += step.copied
        self.bytes += step.bytes
        self.same += step.same
        self.refused |= step.refused
        self._note_extra(step.extra)

    def add_extra(self, step: ExtraStep) -> None:
        """Count in what only the target has."""
        self.removed += step.removed
        self._note_extra(step.extra)

    def _note_extra(self, keys: Sequence[str]) -> None:
        self.extra += len(keys)
        self.extras += keys[: _LISTED - len(self.extras)]

    def note_misnamed(self, path: str) -> None:
        """Count a name that no key can have, and so no copy."""
        self.misnamed += 1
        if self.misnamed == 1:
            print_error(f"Not copied, because no key can name it: {shown(path)}")


def command(
    to: Annotated[str, typer.Option(metavar="URL", help="Where to: file:PATH, or s3://BUCKET/PREFIX.")],
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Workers are stopped: copy the rest, and give the copy the marker."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be copied.")] = False,
    extra: Annotated[
        Extra | None,
        typer.Option(
            help="With --finish: keep originals that no copy wrote, or move them to the trash there."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy all blobs of the storage to another one.

    Without --finish it may be run beside workers, and again: it copies what is new, and resumes where it was
    stopped. With --finish, once they are stopped, the copy becomes the storage.
    """

    async def body(settings: Settings) -> int:
        if extra and not finish:
            raise CommandError("--extra goes with --finish.", code=2)
        url = with_target(settings, "storage_url", to).storage_url
        _check_apart(settings, url, to)
        async with (
            open_stores(settings, create=False) as stores,
            open_blobs(url, create=not dry_run) as target,
        ):
            done = await _copy(settings, stores, target, to, finish=finish, dry_run=dry_run, extra=extra)
        if as_json:
            print_json(asdict(done))
        else:
            _report(done, dry_run=dry_run)
        if finish and not dry_run and not done.finished:
            _say_what_to_do(done)
            return 1
        return 1 if done.refused else 0

    run(body)


async def _copy(
    settings: Settings,
    stores: Stores,
    target: Storage,
    url: str,
    *,
    finish: bool,
    dry_run: bool,
    extra: Extra | None,
) -> Copied:
    catalog, blobs, done = stores.catalog, stores.blobs, Copied(url)
    if await target.catalog_id() == catalog.id:
        if await is_one_place(blobs, target):
            raise CommandError(
                f"{url} is the storage itself, as MEDIA_STORAGE_URL says: nothing is left to do."
            )
        if not finish or dry_run:
            raise CommandError(f"{url} is whole, but its --finish was interrupted: run it again.")
        await _require_no_worker(settings)
        await blobs.rebind(moved(catalog.id, url))
        done.finished = True
        return done
    await check_target(target, catalog.id, url, dry_run=dry_run)
    if finish and not dry_run:
        await _require_no_worker(settings)
    if not dry_run:
        await target.rebind(unfinished(catalog.id))
    copying = BlobCopy(blobs, target, _Keys(catalog), dry_run=dry_run, extra=extra)
    extras = Extras(blobs, target, catalog.sweeps, dry_run=dry_run, extra=extra)
    async with _progress(catalog) as progress:
        if finish or dry_run:
            await _whole(copying, extras, done, progress)
        else:
            await _resumed(copying, catalog.checkpoint(_name_of(url)), done, progress)
    if finish and not dry_run and not done.refused and (extra or not done.extra):
        await CopyNotes(target).forget()
        await target.rebind(catalog.id)
        await blobs.rebind(moved(catalog.id, url))
        done.finished = True
    return done


def _check_apart(settings: Settings, url: str, shown_url: str) -> None:
    """Raises: CommandError where one place lies in what the other lists: it would be copied into itself."""
    here = settings.storage_url
    for area, inner in ((holding_area(here, url), shown_url), (holding_area(url, here), settings.storage)):
        if area:
            raise CommandError(
                f"{inner} lies inside the {area}/ of the other place: choose one apart.", code=2
            )


@dataclass(frozen=True)
class _Keys:
    """The keys that must be in a copy, whatever a listing says."""

    catalog: Catalog

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        if area == VARIANTS:
            return await self.catalog.sweeps.keys(after, upto, _PAGE)
        return await self.catalog.sources.read(after, upto, _PAGE) if area == UPLOADS else []


async def _require_no_worker(settings: Settings) -> None:
    async with open_queue(settings) as queue:
        if living := len(await queue.heartbeats.living()):
            raise CommandError(f"{counted(living, 'worker')} may still write: stop every worker first.")


@asynccontextmanager
async def _progress(catalog: Catalog) -> AsyncIterator[Progress]:
    totals = await catalog.reports.totals()
    expected = [totals.count(what).count for what in ("original", "variant", "superseded")]
    with Progress("blobs", sum(expected)) as progress:
        yield progress


async def _whole(copying: BlobCopy, extras: Extras, done: Copied, progress: Progress) -> None:
    async for step in copying.copy(on_misnamed=done.note_misnamed):
        done.add(step)
        progress.advance(step.copied + step.same)
    async for left in extras.set_aside():
        done.add_extra(left)


async def _resumed(copying: BlobCopy, checkpoint: Checkpoint, done: Copied, progress: Progress) -> None:
    place = await checkpoint.load() or {"area": "", "after": ""}
    if place["after"]:
        print_error(f"Resuming behind {place['after']}.")
    async for step in copying.copy(place["area"], place["after"], on_misnamed=done.note_misnamed):
        done.add(step)
        progress.advance(step.copied + step.same)
        await checkpoint.save({"area": step.area, "after": step.last})
    await checkpoint.clear()


def _name_of(url: str) -> str:
    return f"copy-blobs:{sha256(url.encode()).hexdigest()[:16]}"


def _report(done: Copied, *, dry_run: bool) -> None:
    if done.extra:
        output.print(table("Only there, or newer", ("key",), ([key] for key in done.extras[:_SHOWN])))
    if done.refused:
        rows = list(done.refused.items())[:_SHOWN]
        output.print(table("Not copied", ("key", "reason"), rows))
        output.print(f"{counted(len(done.refused), 'blob')} could not be copied.")
    would = "would be " if dry_run else ""
    output.print(
        f"{counted(done.copied, 'blob')} {would}copied ({size(done.bytes)}), {done.same} were there already, "
        f"{done.removed} {would}moved from the copy to its trash."
    )
    if done.finished:
        output.print(
            f"The storage is {done.to} now: set MEDIA_STORAGE_URL, for apps too, and start the workers."
        )
    elif not dry_run:
        output.print("Run it again for what is new; with --finish once every worker and app is stopped.")


def _say_what_to_do(done: Copied) -> None:
    if done.extra:
        print_error(
            f"{done.to} has {counted(done.extra, 'original')} that no copy wrote, and that the storage does "
            f"not have or has otherwise: {shown(done.extras[0])}. Nothing was done to what is there. Has an "
            "app put it there? Run this again with --extra keep. Is it of an earlier time, and was deleted "
            "since? With --extra trash, which moves it to the trash there, for MEDIA_RETENTION."
        )
    print_error(f"The storage is as it was, and {done.to} a copy that is not finished: run it again.")
