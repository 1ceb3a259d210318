"""`media show`: one upload, as the catalog knows it."""

from typing import Annotated, Any
from uuid import UUID

import typer
from rich.filesize import decimal as size

from scripts.terminal import AsJson, CommandError, moment, output, print_json, run, safe, table
from storage.catalog import open_catalog
from storage.catalog.records import Upload
from worker.events import default_id
from worker.settings import Settings


def command(
    upload: Annotated[str, typer.Argument(metavar="ID", help="The upload's id, or its source (uploads/…).")],
    as_json: AsJson = False,
) -> None:
    """Show one upload: state, variants, error, attempts."""

    async def body(settings: Settings) -> int:
        upload_id = parse_id(upload)
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            found = await catalog.reports.find(upload_id)
        if found is None:
            raise CommandError(f"There is no upload {upload}.")
        if as_json:
            print_json(as_document(found))
        else:
            _print(found)
        return 0

    run(body)


def parse_id(text: str) -> UUID:
    """The id that `text` is, or the default one of the source that it is. Raises: CommandError."""
    if text.startswith("uploads/"):
        return default_id(text)
    try:
        return UUID(text)
    except ValueError as error:
        raise CommandError(f"{text} is neither an id nor a source.", code=2) from error


def as_document(upload: Upload) -> dict[str, Any]:
    """An upload as JSON-ready data."""
    original = upload.original
    return {
        "id": str(upload.id),
        "source": upload.source,
        "state": upload.state,
        "recipe": upload.recipe,
        "metadata": upload.metadata,
        "attempts": upload.attempts,
        "claims": upload.claims,
        "queued": moment(upload.queued_ms),
        "changed": moment(upload.changed_ms),
        "next_try": moment(upload.not_before_ms) if upload.state == "queued" else None,
        "error": {"code": upload.error_code, "message": upload.error_message} if upload.error_code else None,
        "original": None
        if original is None
        else {
            "sha256": original.sha256,
            "bytes": original.bytes,
            "format": original.format,
            "width": original.width,
            "height": original.height,
            "color": original.color,
        },
        "variants": [
            {
                "name": variant.name,
                "key": variant.key,
                "width": variant.width,
                "height": variant.height,
                "bytes": variant.bytes,
                "sha256": variant.sha256,
            }
            for variant in upload.variants
        ],
    }


def _print(upload: Upload) -> None:
    document = as_document(upload)
    for name in ("id", "source", "state", "recipe", "metadata", "attempts", "queued", "changed", "next_try"):
        if document[name] not in (None, {}):
            output.print(f"[dim]{name.replace('_', ' '):>9}[/dim]  {safe(document[name])}")
    if upload.error_code:
        output.print(f"[dim]    error[/dim]  [red]{safe(upload.error_code)}[/red] ", end="")
        output.print(safe(upload.error_message, keep_lines=True))
    if upload.original:
        read = upload.original
        output.print(
            f"[dim] original[/dim]  {safe(read.format)}, {read.width} x {read.height}, {size(read.bytes)}"
        )
    rows = [(v.name, v.width, v.height, size(v.bytes), v.key) for v in upload.variants]
    if rows:
        output.print(table("", ("variant", "#width", "#height", "#size", "key"), rows))
