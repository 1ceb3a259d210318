"""`media migrate-catalog`: moves the catalog to another database, while no worker runs."""

from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.progress import Progress
from scripts.targets import require_no_worker, with_target
from scripts.terminal import AsJson, CommandError, output, print_json, run, table
from storage.catalog.address import Address
from storage.errors import NoCatalog

if TYPE_CHECKING:
    from storage.catalog.database import Database
    from storage.catalog.moving import CatalogMove
    from worker.settings import Settings


def command(
    to: Annotated[str | None, typer.Option(metavar="URL", help="Where to, like MEDIA_CATALOG_URL.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the rows.")] = False,
    cancels: Annotated[
        bool, typer.Option("--cancel", help="Use the catalog again whose move was killed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move the catalog to another database, and mark the old one as moved. Stop every worker before.

    The old one is marked once rows are counted and added up on both sides. A move that was killed begins
    again.
    """
    from storage.catalog.database import open_database
    from storage.catalog.moving import MoveRefused, cancel

    async def body(settings: "Settings") -> None:
        if (to is None) != cancels:
            raise CommandError("Name the database with --to, or take a move back with --cancel.", code=2)
        target = None if to is None else with_target(settings, "catalog_url", to).catalog
        async with open_database(settings.catalog, create=False, migrate=False, even_if_moved=True) as source:
            try:
                if target is None:
                    await cancel(source)
                    rows: Mapping[str, int] = {}
                else:
                    rows = await _move(settings, source, target, dry_run=dry_run)
            except MoveRefused as error:
                raise CommandError(str(error)) from error
        if as_json:
            name = None if target is None else target.name
            print_json({"to": name, "rows": rows, "finished": not dry_run and not cancels})
        else:
            _report(rows, target, dry_run=dry_run)

    run(body)


async def _move(settings: "Settings", source: "Database", to: Address, *, dry_run: bool) -> Mapping[str, int]:
    from storage.catalog.database import open_database
    from storage.catalog.moving import count_rows

    expected = await count_rows(source)
    if dry_run:
        await _check(settings, source, to)
        return expected
    await require_no_worker(settings)
    copied: Counter[str] = Counter()
    async with open_database(to, create=True, migrate=False, even_if_moved=True) as target:
        move = _plan(settings, source, target, to)
        with Progress("rows", sum(expected.values())) as progress:
            async with aclosing(move.run()) as steps:
                async for step in steps:
                    copied[step.table] += step.rows
                    progress.advance(step.rows)
    return copied


async def _check(settings: "Settings", source: "Database", to: Address) -> None:
    from storage.catalog.database import open_database

    try:
        async with open_database(to, create=False, migrate=False, even_if_moved=True) as target:
            await _plan(settings, source, target, to).check()
    except NoCatalog:
        return  # it will be made


def _plan(settings: "Settings", source: "Database", target: "Database", to: Address) -> "CatalogMove":
    from storage.catalog.moving import CatalogMove

    return CatalogMove(source, target, source_name=settings.catalog.name, target_name=to.name)


def _report(rows: Mapping[str, int], target: Address | None, *, dry_run: bool) -> None:
    if target is None:
        output.print("The catalog is used again.")
        return
    output.print(table("Rows", ("table", "#rows"), rows.items()))
    if dry_run:
        output.print("Nothing was written.")
    else:
        output.print(f"The catalog is {target} now: set MEDIA_CATALOG_URL, and start the workers.")
