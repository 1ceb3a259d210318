"""`media keys`: the keys of the HTTP server. The catalog keeps their digests."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.moments import moment
from scripts.terminal import AsJson, CommandError, output, print_json, run, safe, table
from worker.http.scopes import SCOPES

if TYPE_CHECKING:
    from storage.catalog.http_keys import HttpKey
    from worker.settings import Settings

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The key's name, which logs show.")]


@app.command("new")
def new(
    name: Name,
    scope: Annotated[str, typer.Option(help=f"What it allows, of {', '.join(SCOPES)}.")] = "upload,read",
    owner: Annotated[str | None, typer.Option(help="Bind it to the uploads of one owner.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Bind it to a folder, as uploads/shop/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print its secret, which nobody can read again."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.database import open_database  # the help is shown without a catalog
        from storage.catalog.http_keys import HttpKeys
        from worker.http.keys import KeyMistake, new_key

        scopes = [each.strip() for each in scope.split(",") if each.strip()]
        async with open_database(settings.catalog, create=False, migrate=False) as database:
            try:
                secret, key = new_key(name, scopes, owner, prefix, database.now_ms())
            except KeyMistake as error:
                raise CommandError(str(error), code=2) from error
            if not await HttpKeys(database).add(key):
                raise CommandError(f"There is, or was, a key {name}: choose another name.")
        if as_json:
            print_json({**_document(key), "secret": secret})
        else:
            output.print(secret)

    run(body)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List all keys, without their secrets."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.database import open_database
        from storage.catalog.http_keys import HttpKeys

        async with open_database(settings.catalog, create=False, migrate=False) as database:
            keys = [_document(key) for key in await HttpKeys(database).all()]
        if as_json:
            print_json({"keys": keys})
        elif not keys:
            output.print("There are no keys. Make one: media keys new NAME.")
        else:
            columns = ("name", "scopes", "owner", "prefix", "made", "revoked")
            rows = [[" ".join(_words(key[name])) for name in columns] for key in keys]
            output.print(table("Keys", columns, rows))

    run(body)


@app.command("revoke")
def revoke(name: Name, as_json: AsJson = False) -> None:
    """Revoke a key: a few seconds later every server refuses it."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.database import open_database
        from storage.catalog.http_keys import HttpKeys

        async with open_database(settings.catalog, create=False, migrate=False) as database:
            if not await HttpKeys(database).revoke(name):
                raise CommandError(f"There is no key {name} that counts.")
        if as_json:
            print_json({"revoked": name})
        else:
            output.print(f"The key {safe(name)} is revoked.")

    run(body)


def _document(key: "HttpKey") -> dict[str, object]:
    return {
        "name": key.name,
        "scopes": sorted(key.scopes),
        "owner": key.owner,
        "prefix": key.prefix,
        "made": moment(key.made_ms),
        "revoked": moment(key.revoked_ms) if key.revoked_ms is not None else None,
    }


def _words(value: object) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
