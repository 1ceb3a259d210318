"""`media failed`: uploads that failed, and events that never became an upload."""

from typing import Annotated, Any

import typer

from pipelines.blame import DEADLY_CODES, forgive
from scripts.show import parse_id
from scripts.terminal import AsJson, CommandError, moment, output, print_json, run, table
from storage.catalog import open_catalog
from storage.catalog.facts import DeadLetter, Upload
from worker.app import IDS_A_DECODER, open_queue, open_stores
from worker.intake import new_ticket
from worker.settings import Settings

app = typer.Typer()

_ALL = 1_000_000_000
_SHOWN = 60  # characters of a refused event in the table


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_failed(
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each kind, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List failed uploads with their codes, and refused events with reason and bytes."""

    async def body(settings: Settings) -> int:
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            uploads = await catalog.failures.newest(limit)
            letters = await catalog.letters.newest(limit)
        if as_json:
            told = {
                "uploads": [_upload(upload) for upload in uploads],
                "dead_letters": [_letter(one) for one in letters],
            }
            print_json(told)
        else:
            _print([_upload(upload) for upload in uploads], [_letter(letter) for letter in letters])
        return 0

    run(body)


@app.command("retry")
def retry_failed(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Failed uploads.")] = None,
    code: Annotated[str | None, typer.Option(help="All that failed with this code.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue failed uploads again, and forget what is remembered of pictures that killed their decoder."""

    async def body(settings: Settings) -> int:
        if sum((bool(ids), code is not None, everything)) != 1:
            raise CommandError("Say which: ids, --code or --all.", code=2)
        wanted = [parse_id(one) for one in ids] if ids else None
        async with open_stores(settings) as stores, open_queue(settings) as queue:
            failed = await stores.catalog.failures.newest(_ALL, ids=wanted, code=code)
            sources = [upload.source for upload in failed if upload.error_code in DEADLY_CODES]
            await forgive([source for source in sources if source], stores.blobs, stores.catalog.verdicts)
            tickets = await stores.catalog.failures.requeue(
                [upload.id for upload in failed],
                per_ticket=IDS_A_DECODER * settings.decoders,
                new_ticket=new_ticket,
            )
            await queue.enqueue(tickets)
        queued = [str(upload_id) for carried in tickets.values() for upload_id in carried]
        missing = sorted({str(one) for one in wanted or ()} - set(queued))
        if as_json:
            print_json({"queued": queued, "not_failed": missing})
        else:
            output.print(f"{len(queued)} uploads are queued again.")
            for one in missing:
                output.print(f"{one} has not failed.")
        return 1 if missing else 0

    run(body)


def _upload(upload: Upload) -> dict[str, Any]:
    return {
        "id": str(upload.id),
        "source": upload.source,
        "time": moment(upload.changed_ms),
        "attempts": upload.attempts,
        "error": {"code": upload.error_code, "message": upload.error_message},
    }


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "stream_id": letter.stream_id,
        "time": moment(letter.time_ms),
        "error": {"code": letter.code, "message": letter.message},
        "bytes": len(letter.body),
        "body": letter.body.decode("utf-8", "backslashreplace"),
    }


def _print(uploads: list[dict[str, Any]], letters: list[dict[str, Any]]) -> None:
    if uploads:
        rows = [(u["time"], u["id"], u["source"], u["error"]["code"], u["error"]["message"]) for u in uploads]
        output.print(table("Failed uploads", ("time", "id", "source", "code", "reason"), rows))
    if letters:
        rows = [
            (
                one["time"],
                one["stream_id"],
                one["error"]["code"],
                one["error"]["message"],
                one["body"][:_SHOWN],
            )
            for one in letters
        ]
        output.print(table("Refused events", ("time", "entry", "code", "reason", "event"), rows))
    if not uploads and not letters:
        output.print("Nothing has failed.")
