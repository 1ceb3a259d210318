"""`media failed`: uploads that failed, and events that never became an upload."""

from typing import Annotated, Any

import typer

from scripts.terminal import AsJson, moment, output, print_json, run, table
from storage.catalog import open_catalog
from storage.catalog.facts import DeadLetter, Upload
from worker.settings import Settings

app = typer.Typer()

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
            uploads = await catalog.reports.failed(limit)
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
