"""`media failed`: uploads that failed, and dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import typer

from pipelines.poison import DEADLY_CODES, remove_poison
from scripts.show import parse_id
from scripts.terminal import (
    AsJson,
    CommandError,
    moment,
    output,
    print_json,
    require_one_of,
    run,
    safe,
    table,
)
from storage.catalog import Catalog, open_catalog
from storage.catalog.records import DeadLetter, State, Upload
from worker.app import IDS_A_DECODER, open_stores
from worker.intake import new_job_id
from worker.queue import open_queue
from worker.retry import CODES
from worker.settings import Settings

app = typer.Typer(no_args_is_help=True)

_ALL = 1_000_000_000

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="Ids of failed uploads, or numbers of dead letters."),
]
Code = Annotated[str | None, typer.Option(help="All that failed with this code.")]
Everything = Annotated[bool, typer.Option("--all", help="All that failed.")]

_SHOWN = 60  # characters of a dead letter in the table


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_failed(
    limit: Annotated[int, typer.Option(min=1, help="At most this many of each kind, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List failed uploads with their codes, those that wait for another try, and dead letters."""

    async def body(settings: Settings) -> int:
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            uploads = await catalog.failures.newest(limit)
            waiting = [_waiting(upload) for upload in await catalog.failures.waiting(limit)]
            still = await catalog.failures.count_waiting()
            letters = await catalog.dead_letters.newest(limit)
            failed = (await catalog.reports.states())[State.FAILED]
            refused = await catalog.dead_letters.count()
        if as_json:
            document = {
                "uploads": [_upload(upload) for upload in uploads],
                "waiting": waiting,
                "dead_letters": [_letter(one) for one in letters],
                "total": {"uploads": failed, "waiting": still, "dead_letters": refused},
            }
            print_json(document)
        else:
            _print([_upload(upload) for upload in uploads], waiting, [_letter(letter) for letter in letters])
            if more := failed + still + refused - len(uploads) - len(waiting) - len(letters):
                output.print(f"… and {more} more; see --limit.")
        return 0

    run(body)


@app.command("retry")
def retry_failed(
    ids: Ids = None, code: Code = None, everything: Everything = False, as_json: AsJson = False
) -> None:
    """Queue failed uploads again, and send dead letters to the stream once more.

    Pictures that killed their decoder are tried again, too.
    """

    async def body(settings: Settings) -> int:
        async with open_stores(settings) as stores, open_queue(settings) as queue:
            await queue.ownership.check_not_of_another(stores.catalog.id)
            chosen = await _choose(stores.catalog, ids, code, everything=everything)
            await queue.stream.depth()  # a Redis that is away is found before anything is changed
            deadly = [one.source for one in chosen.uploads if one.error_code in DEADLY_CODES and one.source]
            await remove_poison(deadly, stores.blobs, stores.catalog.poison)
            jobs = await stores.catalog.failures.requeue(
                [upload.id for upload in chosen.uploads],
                uploads_per_job=IDS_A_DECODER * settings.decoders,
                new_job_id=new_job_id,
            )
            await queue.jobs.enqueue(jobs)
            for letter in chosen.letters:
                await queue.stream.add_raw(letter.body)
            await stores.catalog.dead_letters.discard([letter.id for letter in chosen.letters])
        return _report("queued", [one.id for one in chosen.uploads], chosen, as_json=as_json)

    run(body)


@app.command("discard")
def discard_failed(
    ids: Ids = None, code: Code = None, everything: Everything = False, as_json: AsJson = False
) -> None:
    """Forget failed uploads without variants, and dead letters. Originals stay where they are."""

    async def body(settings: Settings) -> int:
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            chosen = await _choose(catalog, ids, code, everything=everything)
            gone = await catalog.failures.discard([upload.id for upload in chosen.uploads])
            await catalog.dead_letters.discard([letter.id for letter in chosen.letters])
        return _report("discarded", gone, chosen, as_json=as_json)

    run(body)


@dataclass(frozen=True)
class Chosen:
    """The failures that a person chose; `missing` are ids that have not failed."""

    uploads: Sequence[Upload]
    letters: Sequence[DeadLetter]
    missing: Sequence[str]


async def _choose(
    catalog: Catalog, ids: Sequence[str] | None, code: str | None, *, everything: bool
) -> Chosen:
    if sum((bool(ids), code is not None, everything)) != 1:
        raise CommandError("Choose by ids, --code or --all.", code=2)
    require_one_of("code", code, CODES)
    numbers = [int(one) for one in ids if one.isdecimal()] if ids else None
    uuids = [parse_id(one) for one in ids if not one.isdecimal()] if ids else None
    uploads = await catalog.failures.newest(_ALL, ids=uuids, code=code)
    letters = await catalog.dead_letters.newest(_ALL, ids=numbers, code=code)
    found = {*(upload.id for upload in uploads), *(letter.id for letter in letters)}
    wanted = [*(uuids or ()), *(numbers or ())]
    return Chosen(uploads, letters, [str(one) for one in wanted if one not in found])


def _report(done: str, uploads: Sequence[UUID], chosen: Chosen, *, as_json: bool) -> int:
    letters = [letter.id for letter in chosen.letters]
    kept = [str(one.id) for one in chosen.uploads if one.id not in set(uploads)]
    if as_json:
        print_json(
            {
                "uploads": [str(one) for one in uploads],
                "dead_letters": letters,
                "kept": kept,
                "not_failed": chosen.missing,
            }
        )
    else:
        output.print(f"{len(uploads)} uploads and {len(letters)} dead letters are {done}.")
        for one in kept:
            output.print(f"{one} stays: it has variants. A delete event removes it.")
        for missing in chosen.missing:
            output.print(f"{safe(missing)} has not failed.")
    return 1 if chosen.missing or kept else 0


def _upload(upload: Upload) -> dict[str, Any]:
    return {
        "id": str(upload.id),
        "source": upload.source,
        "time": moment(upload.changed_ms),
        "attempts": upload.attempts,
        "error": {"code": upload.error_code, "message": upload.error_message},
    }


def _waiting(upload: Upload) -> dict[str, Any]:
    return {**_upload(upload), "next_try": moment(upload.not_before_ms)}


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "stream_id": letter.stream_id,
        "time": moment(letter.time_ms),
        "error": {"code": letter.code, "message": letter.message},
        "bytes": len(letter.body),
        "body": letter.body.decode("utf-8", "backslashreplace"),
    }


def _print(
    uploads: list[dict[str, Any]], waiting: list[dict[str, Any]], letters: list[dict[str, Any]]
) -> None:
    if waiting:
        rows = [
            (u["next_try"], u["id"], u["source"], u["error"]["code"], u["error"]["message"]) for u in waiting
        ]
        output.print(table("Waiting for another try", ("next try", "id", "source", "code", "reason"), rows))
    if uploads:
        rows = [(u["time"], u["id"], u["source"], u["error"]["code"], u["error"]["message"]) for u in uploads]
        output.print(table("Failed uploads", ("time", "id", "source", "code", "reason"), rows))
    if letters:
        refused = [
            (
                one["id"],
                one["time"],
                one["stream_id"],
                one["error"]["code"],
                one["error"]["message"],
                one["body"][:_SHOWN],
            )
            for one in letters
        ]
        output.print(table("Dead letters", ("#number", "time", "entry", "code", "reason", "event"), refused))
    if not uploads and not waiting and not letters:
        output.print("Nothing has failed.")
