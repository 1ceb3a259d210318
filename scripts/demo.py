"""`media demo`: everything on real pictures, with a Redis and a worker of its own."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal as size

from scripts.contact_sheet import write_contact_sheet
from scripts.demo_server import choose_port, console_at, until_it_answers
from scripts.enqueue import Sent, enqueue, find_files
from scripts.programs import Program, running, while_alive
from scripts.redis_server import RedisNotFoundError, RedisNotStartedError, private_redis
from scripts.storage_stats import print_stored, stored
from scripts.terminal import AsJson, CommandError, errors, output, print_json, run, safe, table
from worker.amounts import counted

if TYPE_CHECKING:
    from worker.settings import Settings

BUNDLED = Path(__file__).parent / "pictures"
_POLL_INTERVAL_S = 0.05
_OF_INSTALLATION = ("metrics", "backup", "catalog_read_url", "http_", "console", "environment")
_ROWS = 40  # of the table; the contact sheet shows all


def command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Pictures; default: the bundled ones.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="A new folder for the results; default: one in var/demo.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then go on, with a console in the browser, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Where the console is; default: 8080, or one that is free."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn the pictures of DIR into variants, and show them on a contact sheet."""

    async def body(settings: "Settings") -> None:
        if port is not None and not serve:
            raise CommandError("--port is where --serve serves, which is not asked for.", code=2)
        files = list(find_files([folder or BUNDLED]))
        pictures = [file for file in files if folder or file.suffix == ".jpg"]
        if not pictures:
            raise CommandError(f"There are no files in {folder}.", code=2)
        results = into or Path("var/demo") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
        if results.exists() and any(results.iterdir()):
            raise CommandError(f"{results} is not empty.", code=2)
        results = results.absolute()
        chosen = choose_port(port) if serve else None
        own = _own_settings(settings, results, chosen)
        results.mkdir(parents=True, exist_ok=True)
        try:
            await _show(pictures, results, own, chosen, as_json=as_json)
        except (RedisNotFoundError, RedisNotStartedError) as error:
            raise CommandError(str(error)) from error

    run(body)


async def _show(
    pictures: Sequence[Path], results: Path, settings: "Settings", port: int | None, *, as_json: bool
) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(private_redis())
        # No program is still writing these pictures, so a damaged one is refused at once.
        own = settings.model_copy(update={"redis_url": redis.url, "settle": 0})
        decoders = counted(own.decoders, "decoder")
        errors.print(f"Redis {redis.version} and a worker with {decoders} are running.")
        programs = [
            Program("Redis", redis.process, redis.log),
            stack.enter_context(running("The worker", "worker", own, results / "worker.log")),
        ]
        if port is not None:
            programs.append(stack.enter_context(running("The server", "serve", own, results / "server.log")))
        sent, seconds = await while_alive(programs, _work(pictures, own))
        sheet = results / "index.html"
        write_contact_sheet(
            sheet,
            own.storage_root,
            sent,
            title=f"media-worker: {len(sent)} pictures",
            seconds=seconds,
        )
        if port is not None:
            await while_alive(programs, until_it_answers(port))
        await _report(sent, own, seconds, sheet, port, as_json=as_json)
        if port is not None:
            with suppress(asyncio.CancelledError):  # Ctrl-C, which is its end, and no interruption
                await while_alive(programs, asyncio.Event().wait())


async def _work(pictures: Sequence[Path], settings: "Settings") -> tuple[Sequence[Sent], float]:
    """What became of the pictures, and the seconds it took once the worker was there."""
    from worker.queue import open_queue

    async with open_queue(settings) as queue:
        while not await queue.heartbeats.any_healthy():  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(_POLL_INTERVAL_S)
    began = time.monotonic()
    sent = await enqueue(pictures, settings, wait=True)
    return sent, time.monotonic() - began


def _own_settings(settings: "Settings", results: Path, port: int | None) -> "Settings":
    # What an installation has of its own, whose worker and server may be running: as if nothing were set.
    from worker.settings import Settings

    fields = Settings.model_fields
    own = {name: fields[name].get_default() for name in fields if name.startswith(_OF_INSTALLATION)}
    own |= {
        "storage_url": f"file:{results / 'media'}",
        "catalog_url": f"sqlite+aiosqlite:///{results / 'catalog.db'}",
        "log": "json",
        "environment": "demo",
    }
    if port is not None:
        own["http_bind"] = f"127.0.0.1:{port}"
    try:
        return Settings.model_validate({**settings.model_dump(), **own})
    except ValueError as error:
        raise CommandError(
            f"{results} cannot hold the results: its path has a ? or a colon.", code=2
        ) from error


async def _report(
    sent: Sequence[Sent],
    settings: "Settings",
    seconds: float,
    sheet: Path,
    port: int | None,
    *,
    as_json: bool,
) -> None:
    from pipelines.stats.report import report

    stats = report(await stored(settings))
    if as_json:
        print_json(
            {
                "pictures": [one.as_document() for one in sent],
                "storage": str(settings.storage_root),
                "contact_sheet": str(sheet),
                "console": None if port is None else console_at(port),
                "seconds": round(seconds, 3),
                "stats": stats,
            }
        )
        return
    refused_first = sorted(sent, key=lambda one: one.error is None) if len(sent) > _ROWS else sent
    output.print(table("", ("picture", "#size", "became"), (_row(one) for one in refused_first[:_ROWS])))
    if len(sent) > _ROWS:
        output.print(f"… and {len(sent) - _ROWS} more; the contact sheet shows all.")
    print_stored(stats)
    ready = sum(one.status == "ready" for one in sent)
    output.print(
        f"\n{ready} of {len(sent)} pictures are ready, in {seconds:.1f} s ({ready / seconds:.1f}/s)."
    )
    output.print(f"The contact sheet is {safe(sheet)}")
    if port is not None:
        output.print(f"Ctrl-C ends it. Until then the console is {console_at(port)}")


def _row(sent: Sent) -> tuple[str, str, str]:
    if sent.error:
        return sent.path.name, size(sent.bytes), f"{sent.error['code']}: {sent.error['message']}"
    return sent.path.name, size(sent.bytes), ", ".join(f"{v['width']}x{v['height']}" for v in sent.variants)
