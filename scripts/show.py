"""`media show`: one upload, as the catalog knows it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.filesize import decimal as size

from pipelines.recipe import Recipes
from scripts.terminal import AsJson, CommandError, output, print_json, run, safe, table
from storage.filenames import filename_in
from storage.keys import variant_key
from worker.traceparent import trace_id_of
from worker.upload_ids import default_id

if TYPE_CHECKING:
    from storage.catalog.records import StoredVariant, Upload
    from worker.settings import Settings

_DEFAULTS = ("centre", "4:2:0", "effort fast")


def command(
    upload: Annotated[str, typer.Argument(metavar="ID", help="The upload's id, or its source (uploads/…).")],
    as_json: AsJson = False,
) -> None:
    """Show one upload: state, variants, error, attempts."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.database import open_database  # the help is shown without a catalog
        from storage.catalog.reports import Reports
        from worker.documents import upload_document

        upload_id = parse_id(upload)
        async with open_database(settings.catalog, create=False, migrate=False) as database:
            found = await Reports(database).find(upload_id)
        if found is None:
            raise CommandError(f"There is no upload {upload}.")
        if as_json:
            print_json(upload_document(found))
        else:
            _print(found, upload_document(found), settings.recipe_book)

    run(body)


def parse_id(text: str) -> UUID:
    """The id that `text` is, or the default one of the source that it is. Raises: CommandError."""
    if text.startswith("uploads/"):
        return default_id(text)
    try:
        return UUID(text)
    except ValueError as error:
        raise CommandError(f"{text} is neither an id nor a source.", code=2) from error


def _print(upload: "Upload", document: Mapping[str, Any], recipes: Recipes) -> None:
    document = {"file": filename_in(upload.metadata), **document}
    for name in (
        "file",
        "id",
        "source",
        "owner",
        "state",
        "recipe",
        "metadata",
        "attempts",
        "queued",
        "changed",
        "next_try",
    ):
        if document[name] not in (None, {}):
            output.print(f"[dim]{name.replace('_', ' '):>9}[/dim]  {safe(document[name])}")
    if upload.traceparent:
        output.print(f"[dim]    trace[/dim]  {trace_id_of(upload.traceparent)}")
    if upload.error_code:
        output.print(f"[dim]    error[/dim]  [red]{safe(upload.error_code)}[/red] ", end="")
        output.print(safe(upload.error_message, keep_lines=True))
    if upload.original:
        read = upload.original
        output.print(
            f"[dim] original[/dim]  {safe(read.format)}, {read.width} x {read.height}, {size(read.bytes)}"
        )
    for kind in ("thumbhash", "blurhash"):
        if document[kind] is not None:
            output.print(f"[dim]{kind:>9}[/dim]  {safe(document[kind])}")
    rows = [
        (v.name, v.width, v.height, size(v.bytes), _made_as(upload, v, recipes), v.key)
        for v in upload.variants
    ]
    if rows:
        output.print(table("", ("variant", "#width", "#height", "#size", "made as", "key"), rows))


def _made_as(upload: "Upload", stored: "StoredVariant", recipes: Recipes) -> str:
    """What the recipe says of that variant, as far as it is the one by which it was made."""
    recipe = recipes.get(upload.recipe)
    for variant in recipe.variants if recipe and upload.original else ():
        if upload.original and stored.key == variant_key(
            variant.uuid(upload.id, upload.original.sha256), variant.format
        ):
            told = [f"{variant.format} {variant.quality}", variant.crop, variant.subsampling]
            told += ["progressive"] if variant.progressive else []
            told += [f"effort {variant.effort}"]
            return ", ".join(word for word in told if word not in _DEFAULTS)
    return "by another recipe"
