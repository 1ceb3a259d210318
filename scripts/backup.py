"""`media backup`: copies the catalog while workers go on, and adds new originals."""

from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal as size

from scripts.identity import become_owner_of
from scripts.progress import Progress
from scripts.terminal import AsJson, CommandError, output, print_error, print_json, run, safe
from storage.backups.keep import Keep
from storage.errors import CopyRefused
from storage.keys import shown
from worker.amounts import counted

if TYPE_CHECKING:
    from storage.backups.folder import BackupFolder
    from storage.catalog.database import Database
    from worker.backups import Backup
    from worker.settings import Settings

_SHOWN = 20  # originals that could not be copied, or differ from what the catalog says


def command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where the copies are; default: MEDIA_BACKUP.")
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="Add the originals that are new, too.")] = False,
    keep: Annotated[
        str | None, typer.Option(metavar="24h,14d", help="Remove older copies; default: keep all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the catalog into a folder of its own inside DIR, and check the copy. Workers go on meanwhile.

    With --files originals that DIR lacks are added to DIR/files: as hard links where both are on one file
    system. What they replace there is kept in DIR/replaced. Those that do not
    fit the catalog are named. Run by root it works as the owner of DIR.
    """
    from storage.backups.folder import BackupFolder
    from storage.catalog.database import open_to_read
    from worker.backups import back_up, is_expected_in

    async def body(settings: "Settings") -> int:
        place = _place(settings, folder)
        kept = _keep(keep)
        become_owner_of(place)
        into = BackupFolder(place, _print_problem)
        added, refused, differing = Counter[str](), dict[str, str](), dict[str, str]()
        async with open_to_read(settings.catalog) as database:
            with into.alone():
                made = await back_up(database, into, kept, noted=is_expected_in(settings, place))
                if files:
                    await _add_originals(settings, database, into, added, refused)
                    await _compare_originals(settings, database, into, differing)
        if as_json:
            originals = {
                "added": added["copied"],
                "bytes": added["bytes"],
                "refused": refused,
                "differing": differing,
            }
            _print_json(made, originals if files else None)
        else:
            _report(made)
            if files:
                _report_originals(added, refused, differing)
        return 1 if refused or differing else 0

    run(body)


def _place(settings: "Settings", folder: Path | None) -> Path:
    from worker.backups import check_folder

    place = settings.backup_folder if folder is None else folder.absolute()
    if place is None:
        raise CommandError("Name the folder for the copies, or set MEDIA_BACKUP.", code=2)
    try:
        check_folder(settings, place)
    except CopyRefused as error:
        raise CommandError(str(error), code=2) from error
    return place


def _print_problem(path: Path, error: OSError) -> None:
    print_error(f"{path} cannot be read or removed ({error.strerror or error}); all else goes on.")


def _keep(text: str | None) -> Keep | None:
    try:
        return None if text is None else Keep.parse(text)
    except ValueError as error:
        raise CommandError(f"--keep {error}", code=2) from error


async def _add_originals(
    settings: "Settings",
    database: "Database",
    into: "BackupFolder",
    added: Counter[str],
    refused: dict[str, str],
) -> None:
    from worker.backups import back_up_originals

    with Progress("originals", None) as progress:
        async with aclosing(back_up_originals(settings, database, into)) as steps:
            async for step in steps:
                added.update(copied=step.copied, bytes=step.bytes, same=step.same)
                refused |= step.refused
                progress.advance(step.copied + step.same)


async def _compare_originals(
    settings: "Settings", database: "Database", into: "BackupFolder", differing: dict[str, str]
) -> None:
    from worker.backups import compare_originals

    async with aclosing(compare_originals(settings, database, into)) as pages:
        async for page in pages:
            differing |= page


def _print_json(made: "Backup", originals: object) -> None:
    manifest = made.copy.manifest
    document = {
        "copy": str(made.copy.path),
        "time": manifest.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **{name: getattr(manifest, name) for name in ("catalog", "schema", "seq", "uploads", "bytes")},
        "wrong_totals": manifest.wrong_totals,
        "pruned": made.pruned,
        "originals": originals,
    }
    print_json(document)


def _report(made: "Backup") -> None:
    manifest = made.copy.manifest
    uploads = counted(sum(manifest.uploads.values()), "upload")
    output.print(f"Copied to {safe(made.copy.path)}: {uploads}, {size(manifest.bytes)}; the copy is sound.")
    if manifest.wrong_totals:
        output.print(
            f"{manifest.wrong_totals} totals of the catalog are wrong; the next sweep corrects them."
        )
    if made.pruned:
        output.print(f"Removed: {', '.join(map(safe, made.pruned))}.")


def _report_originals(added: Counter[str], refused: dict[str, str], differing: dict[str, str]) -> None:
    new = f"{counted(added['copied'], 'original')}, {size(added['bytes'])}"
    output.print(f"Added {new}; {added['same']} were there.")
    for key, reason in list(refused.items())[:_SHOWN]:
        print_error(f"{shown(key)}: {reason}")
    if refused:
        print_error(f"{counted(len(refused), 'original')} could not be copied.")
    for key, reason in list(differing.items())[:_SHOWN]:
        print_error(f"{shown(key)}: {reason}")
    if differing:
        print_error(
            f"{counted(len(differing), 'original')} of ready uploads are gone, or of another size: bring "
            "them back, or announce those again that an app has replaced."
        )


if __name__ == "__main__":
    typer.run(command)
