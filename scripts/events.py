"""`media events`: the messages about uploads, printed again from the catalog."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scripts.terminal import AsJson, output, print_json, run, safe

if TYPE_CHECKING:
    from storage.catalog.records import Message
    from worker.settings import Settings

_PAUSE_S = 0.5


def command(
    since: Annotated[int, typer.Option(min=0, help="Only messages after this seq.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Print new ones as they come.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the messages of the last 7 days."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.database import open_database  # the help is shown without a catalog
        from storage.catalog.outbox import Outbox
        from worker.documents import payload
        from worker.srcset import lasting_link

        last, link = since, lasting_link(settings.http_url, settings.http_files)
        async with open_database(settings.catalog, create=False, migrate=False) as database:
            outbox = Outbox(database)
            while True:
                messages = await outbox.since(last)
                for message in messages:
                    last = message.seq
                    _print(message, payload(message, link), as_json=as_json)
                if not messages and not follow:
                    return
                if not messages:
                    await asyncio.sleep(_PAUSE_S)

    run(body)


def _print(message: "Message", body: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(body)
        return
    detail = " ".join(variant.name for variant in message.variants) or message.error_code or ""
    output.print(
        f"[dim]{message.seq:>6} {body['time']}[/dim] {body['type']:<15} {message.id or '-'} "
        f"{safe(message.source or '')} [dim]{safe(detail)}[/dim]"
    )
