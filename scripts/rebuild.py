"""`media rebuild`: a new catalog for an existing storage root, from the originals that lie there."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.progress import Progress
from scripts.targets import require_no_worker
from scripts.terminal import AsJson, CommandError, errors, output, print_json, run
from storage.blobs.opening import open_blobs
from storage.blobs.owners import check_in_use

if TYPE_CHECKING:
    from storage.catalog.opening import Catalog
    from worker.settings import Settings

_LOSSES = """\
A new catalog has the originals, and nothing else of the lost one: ids that apps chose, recipes, metadata,
failures and dead letters are lost. Every original gets its default id and recipe, also the original of a
deleted upload. Originals and variants stay. A backup of the catalog would keep all of it."""


def command(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new catalog for the storage root, and queue every original. Nothing is deleted."""
    from storage.catalog.opening import open_catalog
    from worker.adoption import is_rebuild_interrupted
    from worker.logs import configure_logs

    async def body(settings: "Settings") -> None:
        configure_logs(settings.log)  # adoption logs
        await require_no_worker(settings)
        await _check_storage(settings)
        async with open_catalog(
            settings.catalog, uploads_per_job=settings.uploads_per_job, domains=settings.domains.all
        ) as catalog:
            if not catalog.is_new and not await is_rebuild_interrupted(catalog):
                raise CommandError(
                    f"{settings.catalog_name} is the catalog of a storage root already. Move it away first, "
                    "or choose another database, if you mean to replace it."
                )
            errors.print(_LOSSES)
            if not yes and not as_json:
                await asyncio.to_thread(_ask, settings)
            queued = await _rebuild(catalog, settings)
        if as_json:
            print_json({"catalog": catalog.id, "queued": queued})
        else:
            output.print(f"{queued} originals are queued. Start a worker; `media stats` shows its progress.")

    run(body)


async def _check_storage(settings: "Settings") -> None:
    """Raises: RootMismatch where the storage has moved, or is half a copy."""
    async with open_blobs(settings.storage_url, create=False) as blobs:
        if (owner := await blobs.catalog_id()) is not None:
            check_in_use(owner, settings.storage)


def _ask(settings: "Settings") -> None:
    question = f"Give {settings.storage} to a new catalog {settings.catalog_name}? (--yes: do not ask)"
    try:
        typer.confirm(question, abort=True, err=True)
    except OSError as error:
        raise CommandError(f"Nobody can answer on standard error ({error}); --yes does not ask.") from error


async def _rebuild(catalog: "Catalog", settings: "Settings") -> int:
    from worker.adoption import rebuild
    from worker.queue import open_queue

    queued = 0
    async with open_blobs(settings.storage_url, create=False) as blobs, open_queue(settings) as queue:
        with Progress("originals", None) as progress:
            async for count in rebuild(catalog, blobs, queue):
                queued += count
                progress.advance(count)
    return queued
