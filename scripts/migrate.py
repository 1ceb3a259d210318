"""`media migrate`: brings the catalog to this version's schema, or back to the copy from before that."""

from typing import TYPE_CHECKING, Annotated

import typer

from scripts.restore import look_ahead, restore
from scripts.terminal import AsJson, CommandError, output, print_error, print_json, run, safe
from storage.errors import CopyRefused

if TYPE_CHECKING:
    from worker.settings import Settings


def command(
    back: Annotated[
        bool, typer.Option("--back", help="Go back to the copy from before a newer version's migration.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the catalog and bring it to this version's schema, as a worker does when it starts.

    Running workers of the older version go on. With --back, once every worker is stopped, the copy that was
    made before the migration becomes the catalog again, with what happened since, as media restore does.
    """

    async def body(settings: "Settings") -> None:
        if back:
            await _go_back(settings, as_json=as_json)
        else:
            await _migrate(settings, as_json=as_json)

    run(body)


async def _migrate(settings: "Settings", *, as_json: bool) -> None:
    from storage.catalog.database import open_database, schema_of
    from worker.backups import copy_before_migration

    copy = await copy_before_migration(settings)
    if copy is None and not settings.catalog.is_file and await _is_pending(settings):
        raise CommandError("Set MEDIA_BACKUP: a copy of the catalog is made there before the migration.")
    async with open_database(settings.catalog, create=False, migrate=True) as database:
        migrated, now = database.migrated, await schema_of(database)
    kept = migrated.copy if migrated is not None and migrated.copy else copy and copy.path
    before = now if migrated is None else migrated.before
    if as_json:
        print_json({"before": before, "after": now, "copy": kept and str(kept)})
    elif migrated is None:
        output.print(f"The catalog has the schema {now} already: nothing was done.")
    else:
        output.print(f"The catalog was brought from the schema {before} to {now}.")
        output.print(f"Its copy from before is {safe(kept)}. Back: media migrate --back, by the old version.")


async def _is_pending(settings: "Settings") -> bool:
    from storage.catalog.database import open_to_read, pending_migration

    async with open_to_read(settings.catalog) as database:
        return await pending_migration(database) is not None


async def _go_back(settings: "Settings", *, as_json: bool) -> None:
    from storage.backups.earlier import earlier_copy
    from storage.backups.making import check_copy

    try:
        copy = await earlier_copy(settings.catalog, settings.backup_folder)
    except CopyRefused as error:
        raise CommandError(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    await check_copy(copy)
    outlook = await look_ahead(settings, await restore(settings, copy))
    if as_json:
        print_json(outlook.document())
        return
    outlook.report()
    if outlook.done.refused:
        print_error("Not all originals could be brought back.")


if __name__ == "__main__":
    typer.run(command)
