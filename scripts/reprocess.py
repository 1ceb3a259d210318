"""`media reprocess`: uploads are done again, gently: live ones go first, and it goes on where it stopped."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from pipelines.reprocess import is_stale, with_missing_files
from scripts.progress import Progress
from scripts.terminal import AsJson, CommandError, output, print_json, run
from storage.blobs import Exists
from storage.catalog import Catalog
from storage.catalog.backfill import Filter
from storage.catalog.facts import State, Upload
from worker.app import IDS_A_DECODER, open_stores
from worker.intake import new_ticket
from worker.queue import Queue, open_queue
from worker.settings import Settings

_PAGE = 200
_SHORT = 4  # jobs: with more than that in the queue, live uploads go first
_LOOK_S = 0.2
_AGO = re.compile(r"(\d+)([hd])")


def command(
    recipe: Annotated[str | None, typer.Option(help="Only uploads of this recipe.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only those made by an older recipe.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Only those with a file that is gone.")] = False,
    failed: Annotated[str | None, typer.Option(metavar="CODE", help="Uploads that failed so.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only those that changed since: 2026-11-21, 36h or 7d.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    as_json: AsJson = False,
) -> None:
    """Queue uploads again; what they have stays until something newer is published."""

    async def body(settings: Settings) -> int:
        state = State.READY if failed is None else State.FAILED
        wanted = Filter(state, recipe, failed, None if since is None else moment_ms(since))
        async with open_stores(settings) as stores, open_queue(settings) as queue:
            chosen = Backfiller(
                settings, stores.catalog, stores.blobs, queue, wanted, stale=stale, missing=missing
            )
            queued = await chosen.run(limit)
        if as_json:
            print_json({"queued": queued})
        else:
            output.print(f"{queued} uploads are queued again.")
        return 0

    run(body)


class Backfiller:
    """One back-fill, which remembers in the catalog how far it is."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        blobs: Exists,
        queue: Queue,
        wanted: Filter,
        *,
        stale: bool,
        missing: bool,
    ) -> None:
        self._recipes = settings.recipe_book
        self._per_ticket = IDS_A_DECODER * settings.decoders
        self._catalog = catalog
        self._blobs = blobs
        self._queue = queue
        self._wanted = wanted
        self._stale = stale
        self._missing = missing
        # Another wish is another walk; the recipes count, for they decide what is stale.
        wish = repr(
            (wanted.state, wanted.recipe, wanted.code, stale, missing, self._recipes if stale else "")
        )
        self._name = f"reprocess-{hashlib.sha256(wish.encode()).hexdigest()[:16]}"

    async def run(self, limit: int | None) -> int:
        """Queue what is worth it, from where the same back-fill stopped; gives how many uploads."""
        after = (await self._catalog.walks.at(self._name)).after
        queued = 0
        with Progress("uploads", await self._catalog.backfill.count(self._wanted, after)) as progress:
            while limit is None or queued < limit:
                page = await self._catalog.backfill.page(self._wanted, after, _PAGE)
                chosen = await self._worth(page)
                if limit is not None and len(chosen) > limit - queued:
                    chosen = chosen[: limit - queued]
                    page = page[: page.index(chosen[-1]) + 1]
                queued += await self._queue_up(chosen)
                progress.advance(len(page))
                if not page or (len(page) < _PAGE and (limit is None or queued < limit)):
                    await self._catalog.walks.ended(self._name)
                    break
                after = str(page[-1].id)
                await self._catalog.walks.moved(self._name, after)
        return queued

    async def _worth(self, page: Sequence[Upload]) -> Sequence[Upload]:
        if self._stale:
            page = [upload for upload in page if is_stale(upload, self._recipes)]
        return await with_missing_files(page, self._blobs) if self._missing else page

    async def _queue_up(self, uploads: Sequence[Upload]) -> int:
        queued = 0
        for start in range(0, len(uploads), self._per_ticket):
            while await self._queue.waiting_jobs() > _SHORT:  # noqa: ASYNC110 (another process' work)
                await asyncio.sleep(_LOOK_S)
            group = [upload.id for upload in uploads[start : start + self._per_ticket]]
            tickets = await self._catalog.backfill.requeue(
                group, self._wanted.state, per_ticket=self._per_ticket, new_ticket=new_ticket
            )
            await self._queue.enqueue(tickets)
            queued += sum(len(ids) for ids in tickets.values())
        return queued


def moment_ms(text: str) -> int:
    """A date, a time, or a span such as 36h or 7d before now, in ms since 1970. Raises: CommandError."""
    if ago := _AGO.fullmatch(text):
        hours = int(ago[1]) * (24 if ago[2] == "d" else 1)
        return int((datetime.now(UTC).timestamp() - hours * 3600) * 1000)
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except ValueError as error:
        raise CommandError(f"{text} is no date, and no span such as 36h or 7d.", code=2) from error
