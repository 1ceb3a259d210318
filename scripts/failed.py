"""`media failed`: uploads that failed, and dead letters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from scripts.show import parse_id
from scripts.terminal import (
    AsJson,
    CommandError,
    counted_are,
    output,
    print_json,
    require_one_of,
    run,
    safe,
    table,
)
from storage.filenames import name_for_people
from worker.amounts import counted

if TYPE_CHECKING:
    from storage.catalog.opening import Catalog
    from worker.failures import Chosen
    from worker.settings import Settings

app = typer.Typer(no_args_is_help=True)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids of failed uploads, or numbers of dead letters."),
]
Code = Annotated[str | None, typer.Option(help="All that failed with this code.")]
Everything = Annotated[bool, typer.Option("--all", help="All that failed.")]

_SHOWN = 60  # characters of a dead letter in the table
_REASON = {"code": "code", "reason": "message"}
_TABLES = {
    "waiting": (
        "Waiting for another try",
        {"next try": "next_try", "id": "id", "file": "file", **_REASON},
    ),
    "uploads": ("Failed uploads", {"time": "time", "id": "id", "file": "file", **_REASON}),
    "dead_letters": (
        "Dead letters",
        {"#number": "id", "time": "time", "entry": "stream_id", **_REASON, "event": "body"},
    ),
}


@app.command("list")
def list_failed(
    limit: Annotated[int, typer.Option(min=1, help="At most this many of each kind, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List failed uploads with their codes, those that wait for another try, and dead letters."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.database import open_database  # the help is shown without a catalog
        from worker.failure_lists import list_failures

        async with open_database(settings.catalog, create=False, migrate=False) as database:
            found = await list_failures(database, limit)
        if as_json:
            print_json(found)
        else:
            _print(found)
            if more := sum(count - len(found[kind]) for kind, count in found["total"].items()):
                output.print(f"… and {more} more; see --limit.")

    run(body)


@app.command("retry")
def retry_failed(
    ids: Ids = None, code: Code = None, everything: Everything = False, as_json: AsJson = False
) -> None:
    """Queue failed uploads again, have those that wait for another try done now, and send dead letters to
    the stream once more.

    Pictures that killed their decoder are tried again, too. A dead letter whose entry had no field `event`
    stays: it can only be discarded.
    """

    async def body(settings: "Settings") -> int:
        from worker.failures import retry
        from worker.queue import open_queue
        from worker.stores import open_stores

        async with open_stores(settings) as stores, open_queue(settings) as queue:
            await queue.ownership.check_not_of_another(stores.catalog.id)
            chosen = await _choose(stores.catalog, ids, code, everything=everything, waits=True)
            done = await retry(chosen, stores, queue)
        uploads = [one.id for one in chosen.uploads]
        return _report("queued", uploads, chosen, done.sent, due=done.due, as_json=as_json)

    run(body)


@app.command("discard")
def discard_failed(
    ids: Ids = None, code: Code = None, everything: Everything = False, as_json: AsJson = False
) -> None:
    """Forget failed uploads without variants, and dead letters. Originals stay where they are."""

    async def body(settings: "Settings") -> int:
        from storage.catalog.opening import open_catalog
        from worker.failures import discard

        async with open_catalog(settings.catalog, create=False) as catalog:
            chosen = await _choose(catalog, ids, code, everything=everything)
            gone = await discard(chosen, catalog)
        letters = [letter.id for letter in chosen.letters]
        return _report("discarded", gone, chosen, letters, as_json=as_json)

    run(body)


async def _choose(
    catalog: "Catalog",
    ids: Sequence[str] | None,
    code: str | None,
    *,
    everything: bool,
    waits: bool = False,
) -> "Chosen":
    from worker.failures import choose
    from worker.retry import CODES

    if sum((bool(ids), code is not None, everything)) != 1:
        raise CommandError("Choose by ids, --code or --all.", code=2)
    require_one_of("code", code, CODES)
    numbers = [int(one) for one in ids if one.isdecimal()] if ids else None
    uuids = [parse_id(one) for one in ids if not one.isdecimal()] if ids else None
    return await choose(catalog, uuids, numbers, code, waits=waits)


def _report(
    done: str,
    uploads: Sequence[UUID],
    chosen: "Chosen",
    numbers: Sequence[int],
    *,
    due: Sequence[UUID] | None = None,
    as_json: bool,
) -> int:
    from worker.failures import NO_EVENT

    unsent = [str(letter.id) for letter in chosen.letters if letter.id not in set(numbers)]
    ids = [str(one) for one in uploads]
    gone = set(uploads)
    kept = [str(one.id) for one in chosen.uploads if one.id not in gone]
    if as_json:
        found = {
            "uploads": ids,
            "dead_letters": numbers,
            "kept": [*kept, *unsent],
            "not_failed": chosen.missing,
        }
        print_json(found if due is None else {**found, "due": due})
    else:
        letters = counted(len(numbers), "dead letter")
        output.print(f"{counted(len(uploads), 'upload')} and {letters} are {done}.")
        if due is not None and chosen.waiting:
            output.print(f"{counted_are(len(due), 'upload')} due now that waited for another try.")
        for one in kept:
            output.print(f"{one} stays: it has variants. A delete event removes it.")
        for number in unsent:
            output.print(f"Dead letter {number} stays: {NO_EVENT}.")
        for missing in chosen.missing:
            output.print(f"{safe(missing)} has not failed.")
    return 1 if chosen.missing or kept or unsent else 0


def _print(found: dict[str, Any]) -> None:
    shown = [kind for kind in _TABLES if found[kind]]
    for kind in shown:
        title, fields = _TABLES[kind]
        flat = [
            {
                **one,
                **one["error"],
                "body": one.get("body", "")[:_SHOWN],
                "file": name_for_people(one.get("source"), one.get("filename")),
            }
            for one in found[kind]
        ]
        output.print(table(title, list(fields), [[one[field] for field in fields.values()] for one in flat]))
    if not shown:
        output.print("Nothing has failed.")
