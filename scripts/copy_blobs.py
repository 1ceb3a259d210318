"""`media copy-blobs`: copies the storage to another place while workers run, and then moves there."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.copied import Copied, report, say_what_to_do, warn_of_announcements
from scripts.progress import Progress
from scripts.targets import require_no_worker, with_target
from scripts.terminal import AsJson, CommandError, output, print_error, print_json, run
from storage.blobs import Storage
from storage.blobs.copy_notes import CopyNotes
from storage.blobs.copying import BlobCopy, Extra, check_target
from storage.blobs.extras import Extras
from storage.blobs.opening import open_target
from storage.blobs.owners import unfinished
from storage.blobs.places import holding_area, is_one_place
from storage.blobs.seal import Seal
from storage.keys import UPLOADS, VARIANTS

if TYPE_CHECKING:
    from storage.catalog.kv import Checkpoint
    from storage.catalog.opening import Catalog
    from worker.settings import Settings
    from worker.stores import Stores

_PAGE = 500  # keys of the catalog


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    finish: bool
    cancel: bool
    dry_run: bool
    extra: Extra | None
    leave: bool

    def check(self) -> None:
        """Raises: CommandError where one goes without another, or not with it."""
        if self.cancel and (self.finish or self.dry_run):
            raise CommandError("--cancel goes alone.", code=2)
        if (self.extra or self.leave) and not self.finish:
            raise CommandError("--extra and --leave go with --finish.", code=2)

    @property
    def moves(self) -> bool:
        """Whether the copy is to become the storage."""
        return self.finish and not self.dry_run


def command(
    to: Annotated[str, typer.Option(metavar="URL", help="Where to: file:PATH, or s3://BUCKET/PREFIX.")],
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Workers are stopped: copy the rest, and give the copy the marker."),
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Use the storage again whose --finish was killed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be copied.")] = False,
    extra: Annotated[
        Extra | None,
        typer.Option(
            help="With --finish: keep originals that no copy wrote, or move them to the trash there."
        ),
    ] = None,
    leave: Annotated[
        bool, typer.Option("--leave", help="With --finish: leave behind what cannot be copied.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy all blobs of the storage to another one.

    Without --finish it may be run beside workers, and again: it copies what is new, and resumes where it was
    stopped. With --finish, once they are stopped, the copy becomes the storage.
    """
    from worker.stores import open_stores

    options = Options(finish, cancel, dry_run, extra, leave)

    async def body(settings: "Settings") -> int:
        options.check()
        url = with_target(settings, "storage_url", to).storage_url
        _check_apart(settings, url, to)
        async with (
            open_stores(settings, create=False, moving_to=to) as stores,
            open_target(url, create=not dry_run and not cancel) as target,
        ):
            done = await _Move(settings, stores, target, url, to, options).run()
        if as_json:
            print_json(asdict(done))
        elif cancel:
            output.print("The storage is used again.")
        else:
            report(done, dry_run=dry_run)
        if options.moves and not done.finished:
            say_what_to_do(done)
        return 1 if not done.finished and (options.moves or done.refused) else 0

    run(body)


@dataclass(frozen=True)
class _Move:
    """The move of the storage to `target`, or a step of it."""

    settings: "Settings"
    stores: "Stores"
    target: Storage
    place: str  # the URL of the target, with its options
    url: str  # the same as it was given
    options: Options

    async def run(self) -> Copied:
        done = Copied(self.url)
        if not self.options.cancel:
            await warn_of_announcements(self.place, self.url)
        if await self.target.catalog_id() == self.stores.catalog.id:
            await self._end_only()
            done.finished = True
        elif self.options.cancel:
            await self._seal.take_back()
        elif self.options.moves:
            await self._check_target()
            done.finished = await self._finish(done)
        elif self.options.dry_run:
            await self._check_target()
            await self._copy_whole(done)
        else:
            await self._check_target()
            await self._copy(done)
        return done

    async def _check_target(self) -> None:
        await check_target(self.target, self.stores.catalog.id, self.url, dry_run=self.options.dry_run)

    @property
    def _seal(self) -> Seal:
        return Seal(self.stores.blobs, self.stores.catalog.id, self.url)

    async def _end_only(self) -> None:
        """End a move after which only the old place did not say so. Raises: CommandError if it is none."""
        if await is_one_place(self.stores.blobs, self.target):
            raise CommandError(
                f"{self.url} is the storage itself, as MEDIA_STORAGE_URL says: nothing is left to do."
            )
        if not await self._seal.is_set():
            raise CommandError(
                f"{self.url} has the marker of this very catalog, as the storage has: one of them was "
                "given it by hand, or by a backup. Set MEDIA_STORAGE_URL to the one that is used; to copy "
                "that, choose an empty place."
            )
        if not self.options.moves:
            raise CommandError(f"{self.url} is whole, but its --finish was interrupted: run it again.")
        await self._seal.end()

    async def _copy(self, done: Copied) -> None:
        """Copy beside workers. Raises: CommandError after a finish that was killed."""
        if await self._seal.is_set():
            raise CommandError(
                "A --finish was interrupted: run it again, or take it back with --cancel in its place."
            )
        await self.target.rebind(unfinished(self.stores.catalog.id))
        checkpoint = self.stores.catalog.checkpoint(_name_of(self.url))
        async with _progress(self.stores.catalog) as progress:
            await _resumed(self._copying(), checkpoint, done, progress)

    async def _finish(self, done: Copied) -> bool:
        """Copy what is left while nobody can work, and move; returns whether the copy is the storage."""
        await require_no_worker(self.settings)
        async with self._seal.held():
            await require_no_worker(self.settings)  # that was begun before it could see the seal
            await self.target.rebind(unfinished(self.stores.catalog.id))
            await self._copy_whole(done)
            await require_no_worker(self.settings)
            is_whole = self._is_whole(done)
            if is_whole:
                await CopyNotes(self.target).forget()
        if not is_whole:
            await self._seal.take_back()
            return False
        # Not taken back from here on: a request that failed may have been done all the same.
        await self.target.rebind(self.stores.catalog.id)
        await self._seal.end()
        return True

    def _is_whole(self, done: Copied) -> bool:
        """Whether nothing is left that somebody has to decide about."""
        refused = done.refused and not self.options.leave
        return not refused and not (done.extra and not self.options.extra)

    async def _copy_whole(self, done: Copied) -> None:
        extras = Extras(
            self.stores.blobs,
            self.target,
            self.stores.catalog.sweeps,
            dry_run=self.options.dry_run,
            extra=self.options.extra,
        )
        async with _progress(self.stores.catalog) as progress:
            async for step in self._copying().copy(on_misnamed=done.note_misnamed):
                done.add(step)
                progress.advance(step.copied + step.same)
            async for left in extras.set_aside():
                done.add_extra(left)

    def _copying(self) -> BlobCopy:
        return BlobCopy(
            self.stores.blobs,
            self.target,
            _Keys(self.stores.catalog),
            dry_run=self.options.dry_run,
            extra=self.options.extra,
        )


def _check_apart(settings: "Settings", url: str, shown_url: str) -> None:
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

    catalog: "Catalog"

    async def keys(self, area: str, after: str, upto: str | None) -> Sequence[str]:
        if area == VARIANTS:
            return await self.catalog.sweeps.keys(after, upto, _PAGE)
        return await self.catalog.sources.read(after, upto, _PAGE) if area == UPLOADS else []


@asynccontextmanager
async def _progress(catalog: "Catalog") -> AsyncIterator[Progress]:
    totals = await catalog.reports.totals()
    expected = [totals.count(what).count for what in ("original", "variant", "superseded")]
    with Progress("blobs", sum(expected)) as progress:
        yield progress


async def _resumed(copying: BlobCopy, checkpoint: "Checkpoint", done: Copied, progress: Progress) -> None:
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
