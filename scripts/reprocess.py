"""`media reprocess`: queues uploads again, few at a time among live ones, and resumes where it stopped."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from scripts.progress import Progress
from scripts.show import parse_id
from scripts.terminal import (
    AsJson,
    CommandError,
    counted_are,
    output,
    print_error,
    print_json,
    require_one_of,
    run,
)
from storage.blobs import Storage
from storage.catalog.paging import PAGE
from storage.catalog.records import State, Upload
from storage.keys import shown

if TYPE_CHECKING:
    from pipelines.reprocess import Selection
    from storage.catalog.opening import Catalog
    from worker.queue import Queue
    from worker.settings import Settings

_PAGE = 200
_SHOWN = 20  # originals whose uploads are left alone
_SHORT = 4  # jobs for each worker, or events: with more than that, live uploads go first
_POLL_INTERVAL_S = 0.2
_AGO = re.compile(r"(\d+)([mhd])")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


def command(
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only this upload; may be given again.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Only uploads of this recipe.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only those made by an older recipe.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Only those with a missing file.")] = False,
    failed: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only those that failed with CODE.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only those that changed since: 2026-11-21, 10m, 36h or 7d.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many.")] = None,
    as_json: AsJson = False,
) -> None:
    """Queue uploads again; their variants stay until newer ones are published.

    With --stale and --missing, ready uploads whose originals are gone, or of another size, or whose recipe
    is gone, are left alone and named. With --stale, so are workers that read the recipes before they changed.
    """
    from pipelines.reprocess import Selection
    from storage.catalog.backfill import Filter
    from worker.other_recipes import find_other_recipes
    from worker.queue import open_queue
    from worker.retry import CODES
    from worker.stores import open_stores

    async def body(settings: "Settings") -> int:
        require_one_of("recipe", recipe, settings.recipe_book)
        require_one_of("code", failed, CODES)
        state = State.READY if failed is None else State.FAILED
        since_ms = None if since is None else moment_ms(since)
        found_by = Filter(state, recipe, failed, since_ms, _parse_ids(ids))
        async with open_stores(settings) as stores, open_queue(settings) as queue:
            await queue.ownership.check_not_of_another(stores.catalog.id)
            others = find_other_recipes(await queue.heartbeats.reporting(), settings) if stale else None
            if others:
                consequence = "what such a one makes may be stale still"
                print_error(f"{others.detail}: {consequence}. {others.advice} Then run this again.")
            selection = Selection(found_by, since, stale, missing)
            reprocessor = Reprocessor(settings, stores.catalog, stores.blobs, queue, selection)
            queued = await reprocessor.run(limit)
        differing, unselected = reprocessor.differing, [str(one) for one in reprocessor.unselected]
        if as_json:
            print_json({"queued": queued, "differing": differing, "unselected": unselected})
        else:
            output.print(f"{counted_are(queued, 'upload')} queued again.")
            _print_differing(differing)
            for one in unselected:
                print_error(f"{one}: there is no such upload, or {_why_not(failed, recipe, since)}.")
        return 1 if differing or unselected or others else 0

    run(body)


def _parse_ids(ids: Sequence[str] | None) -> Sequence[UUID] | None:
    if not ids:
        return None
    found = sorted({parse_id(one) for one in ids}, key=str)
    if len(found) > PAGE:
        raise CommandError(f"At most {PAGE} uploads can be named at once.", code=2)
    return found


def _why_not(failed: str | None, recipe: str | None, since: str | None) -> str:
    not_ready = "it is not ready (`media failed retry` is for those that failed)"
    reasons = [not_ready if failed is None else f"it has not failed with {failed}"]
    reasons += [] if recipe is None else [f"is not of the recipe {recipe}"]
    reasons += [] if since is None else [f"has not changed since {since}"]
    return ", or ".join(reasons)


def _print_differing(differing: Mapping[str, str]) -> None:
    for key, reason in list(differing.items())[:_SHOWN]:
        print_error(f"{shown(key)}: {reason}")
    if differing:
        print_error(
            f"{counted_are(len(differing), 'original')} gone, or of another size, or of a recipe that is "
            "gone: their ready uploads were left alone, for they would fail. Bring back what is gone, or "
            "announce those again that an app has replaced."
        )


@dataclass(frozen=True)
class Reprocessor:
    """One back-fill, whose progress the catalog keeps.

    `differing` says by original why its uploads were left alone; `unselected` are ids that were asked for,
    and of which no upload is so.
    """

    settings: "Settings"
    catalog: "Catalog"
    blobs: Storage
    queue: "Queue"
    selection: "Selection"
    differing: dict[str, str] = field(default_factory=dict)
    unselected: list[UUID] = field(default_factory=list)

    async def run(self, limit: int | None) -> int:
        """Queue what is selected, from where the same back-fill stopped; returns how many uploads."""
        backfill, selection, recipes = self.catalog.backfill, self.selection, self.settings.recipe_book
        checkpoint = self.catalog.checkpoint(selection.checkpoint(recipes))
        after = (await checkpoint.load() or {}).get("after", "")
        total = await backfill.count(selection.filter, after)
        if selection.filter.ids is not None:
            self.unselected.extend(await backfill.unselected(selection.filter, after))
        if after:
            print_error(f"Resuming where the last run stopped; {counted_are(total, 'upload')} left.")
        queued, at_once = 0, self.settings.uploads_per_job
        with Progress("uploads", total) as progress:
            while page := await backfill.page(selection.filter, after, _PAGE):
                for piece in (page[start : start + at_once] for start in range(0, len(page), at_once)):
                    found = await selection.among(piece, recipes, self.blobs, self.catalog.sources)
                    self.differing.update(found.differing)
                    selected = found.uploads
                    while selected and queued != limit:  # some of them may have been requeued meanwhile
                        room = len(selected) if limit is None else limit - queued
                        chosen, selected = selected[:room], selected[room:]
                        queued += await self._requeue(chosen)
                        last = chosen if selected or queued == limit else piece
                        await checkpoint.save({"after": str(last[-1].id)})
                    progress.advance(len(piece))
                    if queued == limit:
                        return queued
                after = str(page[-1].id)
                await checkpoint.save({"after": after})
        await checkpoint.clear()
        return queued

    async def _requeue(self, uploads: Sequence[Upload]) -> int:
        from pipelines.poison import DEADLY_CODES, remove_poison

        await self._until_short()
        deadly = [one.source for one in uploads if one.error_code in DEADLY_CODES and one.source]
        if deadly:  # or the poison list would refuse them again
            await remove_poison(deadly, self.blobs, self.catalog.poison)
        ids = [upload.id for upload in uploads]
        return len(await self.catalog.requeuer.requeue(ids, self.selection.filter.state))

    async def _until_short(self) -> None:
        """Live uploads go first: those with jobs, those parked, and those whose events nobody has taken."""
        warned = False
        while True:
            workers = await self.queue.heartbeats.healthy()
            most = _SHORT * max(1, workers)
            if await self._waiting() <= most and not await self._are_parked(most):
                return
            if not warned and not workers:
                print_error("The queue does not drain; is a worker running?")
            warned = True
            await asyncio.sleep(_POLL_INTERVAL_S)

    async def _are_parked(self, jobs: int) -> bool:
        """Whether more uploads are parked than so many jobs have: an owner's live ones wait behind those."""
        return await self.catalog.parking.exceeds(jobs * self.settings.uploads_per_job)

    async def _waiting(self) -> int:
        return await self.queue.jobs.untaken_anywhere() + await self.queue.stream.depth()


def moment_ms(text: str) -> int:
    """A date, a time, or a span such as 10m, 36h or 7d before now, in ms since 1970. Raises: CommandError."""
    if ago := _AGO.fullmatch(text):
        minutes = int(ago[1]) * _MINUTES[ago[2]]
        return int((datetime.now(UTC).timestamp() - minutes * 60) * 1000)
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{text} is neither a date nor a span such as 10m, 36h or 7d.", code=2) from error
