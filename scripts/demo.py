"""`media demo`: everything on real pictures, with a Redis and a worker of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.filesize import decimal as size

from pipelines.stats.report import report
from scripts.contact_sheet import write_contact_sheet
from scripts.enqueue import Sent, enqueue, find_files
from scripts.processes import launch
from scripts.redis_server import RedisNotFoundError, RedisNotStartedError, temporary_redis
from scripts.storage_stats import print_stored, stored
from scripts.terminal import AsJson, CommandError, errors, output, print_json, run, safe, table
from scripts.variables import environment
from worker.queue import open_queue
from worker.settings import Settings

T = TypeVar("T")

BUNDLED = Path(__file__).parent / "pictures"
_STOP_TIMEOUT_S = 30
_POLL_INTERVAL_S = 0.05
_ROWS = 40  # of the table; the contact sheet shows all


def command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Pictures; default: the bundled ones.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(help="A new folder for the results; default: one in var/demo.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn the pictures of DIR into variants, and show them on a contact sheet."""

    async def body(settings: Settings) -> None:
        files = list(find_files([folder or BUNDLED]))
        pictures = [file for file in files if folder or file.suffix == ".jpg"]
        if not pictures:
            raise CommandError(f"There are no files in {folder}.", code=2)
        results = into or Path("var/demo") / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
        if results.exists() and any(results.iterdir()):
            raise CommandError(f"{results} is not empty.", code=2)
        results = results.absolute()
        own = _own_settings(settings, results)
        results.mkdir(parents=True, exist_ok=True)
        await _show(pictures, results, own, as_json=as_json)

    run(body)


async def _show(pictures: Sequence[Path], results: Path, settings: Settings, *, as_json: bool) -> None:
    try:
        with temporary_redis() as redis:
            # No program is still writing these pictures, so a damaged one is refused at once.
            own = settings.model_copy(update={"redis_url": redis.url, "settle": 0})
            errors.print(f"Redis {redis.version} and a worker with {own.decoders} decoders are running.")
            with _worker(own, results / "worker.log") as process:
                sent, seconds = await _while_alive(process, _work(pictures, own), results / "worker.log")
    except (RedisNotFoundError, RedisNotStartedError) as error:
        raise CommandError(str(error)) from error
    sheet = results / "index.html"
    write_contact_sheet(
        sheet,
        own.storage_root,
        sent,
        title=f"media-worker: {len(sent)} pictures",
        seconds=seconds,
    )
    await _report(sent, own, seconds, sheet, as_json=as_json)


async def _work(pictures: Sequence[Path], settings: Settings) -> tuple[Sequence[Sent], float]:
    """What became of the pictures, and the seconds it took once the worker was there."""
    async with open_queue(settings) as queue:
        while not await queue.heartbeats.any_healthy():  # noqa: ASYNC110 (of another process)
            await asyncio.sleep(_POLL_INTERVAL_S)
    began = time.monotonic()
    sent = await enqueue(pictures, settings, wait=True)
    return sent, time.monotonic() - began


async def _while_alive(process: subprocess.Popen[bytes], work: Coroutine[Any, Any, T], log: Path) -> T:
    """The result of `work`. Raises: CommandError if the worker ends first."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=_POLL_INTERVAL_S))[0]:
            if process.poll() is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-5:]
                raise CommandError("The worker ended:\n" + "\n".join(last))
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=_STOP_TIMEOUT_S)


def _own_settings(settings: Settings, results: Path) -> Settings:
    own = {
        "storage_url": f"file:{results / 'media'}",
        "catalog_url": f"sqlite+aiosqlite:///{results / 'catalog.db'}",
        "log": "json",
        # Those of the installation, whose worker may be running.
        "metrics": "",
        "backup": "",
    }
    try:
        return Settings.model_validate({**settings.model_dump(), **own})
    except ValueError as error:
        raise CommandError(
            f"{results} cannot hold the results: its path has a ? or a colon.", code=2
        ) from error


@contextmanager
def _worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, as an operator would run it; it ends when the block does."""
    command = [sys.executable, "-P", "-m", "media_worker", "worker"]
    with log.open("wb") as lines:
        process = launch(command, lines, {**os.environ, **environment(settings)})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _report(
    sent: Sequence[Sent], settings: Settings, seconds: float, sheet: Path, *, as_json: bool
) -> None:
    stats = report(await stored(settings))
    if as_json:
        print_json(
            {
                "pictures": [one.as_document() for one in sent],
                "storage": str(settings.storage_root),
                "contact_sheet": str(sheet),
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


def _row(sent: Sent) -> tuple[str, str, str]:
    if sent.error:
        return sent.path.name, size(sent.bytes), f"{sent.error['code']}: {sent.error['message']}"
    return sent.path.name, size(sent.bytes), ", ".join(f"{v['width']}x{v['height']}" for v in sent.variants)
