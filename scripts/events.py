"""`media events`: the messages about uploads, printed again from the catalog."""

import asyncio
from typing import Annotated

import typer

from scripts.terminal import AsJson, output, print_json, run, safe
from storage.catalog import open_catalog
from storage.catalog.facts import Notice
from worker.events import message
from worker.settings import Settings

_PAUSE_S = 0.5


def command(
    since: Annotated[int, typer.Option(min=0, help="Only messages after this seq.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new ones as they come.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the messages of the last 7 days."""

    async def body(settings: Settings) -> int:
        last = since
        async with open_catalog(settings.catalog_url, create=False) as catalog:
            while True:
                notices = await catalog.outbox.since(last)
                for notice in notices:
                    last = notice.seq
                    _print(notice, as_json=as_json)
                if not notices and not follow:
                    return 0
                if not notices:
                    await asyncio.sleep(_PAUSE_S)

    run(body)


def _print(notice: Notice, *, as_json: bool) -> None:
    told = message(notice)
    if as_json:
        print_json(told)
        return
    detail = " ".join(variant.name for variant in notice.variants) or notice.error_code or ""
    output.print(
        f"[dim]{notice.seq:>6} {told['time']}[/dim] {told['type']:<15} {notice.id or '-'} "
        f"{safe(notice.source or '')} [dim]{safe(detail)}[/dim]"
    )
