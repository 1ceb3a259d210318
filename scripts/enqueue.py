"""`media enqueue`: files become uploads, one event each; with `--wait`, their outcomes are followed."""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import aiofiles
import typer

from pipelines.errors import PictureRefused
from pipelines.placeholders import NO_PLACEHOLDER, Kind, Placeholder, parse
from scripts.progress import Progress
from scripts.terminal import (
    AsJson,
    CommandError,
    errors,
    output,
    print_json,
    require_one_of,
    run,
    safe,
    table,
)
from storage.tasks import together
from worker.queue.errors import QueueUnavailable
from worker.traceparent import parse_traceparent

if TYPE_CHECKING:
    from worker.queue import Queue
    from worker.receiving import Received, Receiver
    from worker.settings import Settings

_FOLDER = "cli"  # in uploads/
_CHUNK = 1024 * 1024
_ROWS = 40  # of a table
_WARN_AFTER_S = 3  # of waiting without a worker
_OF_A_VARIANT = {"name", "key", "width", "height", "bytes"}


@dataclass
class Sent:
    """One file: its upload, and the outcome as far as it is known."""

    path: Path
    bytes: int = 0
    id: str | None = None
    source: str | None = None
    status: str = "enqueued"
    variants: Sequence[Mapping[str, Any]] = ()
    original: dict[str, Any] | None = None
    placeholder: Placeholder = NO_PLACEHOLDER
    error: dict[str, str] | None = None
    entry: str | None = None

    def fail(self, code: str, message: str) -> None:
        """Record that the file became no upload, or that its upload failed."""
        self.status, self.error = "failed", {"code": code, "message": message}

    def as_document(self) -> dict[str, Any]:
        """The outcome, as the documented JSON."""
        return {
            "path": os.fsdecode(self.path).encode("utf-8", "backslashreplace").decode(),
            "id": self.id,
            "source": self.source,
            "status": self.status,
            "variants": list(self.variants),
            "error": self.error,
        }


def command(
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders; hidden files and links in them are skipped.")
    ],
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the uploads until each is ready or failed.")
    ] = False,
    recipe: Annotated[str, typer.Option(help="The recipe that says which variants are made.")] = "default",
    traceparent: Annotated[
        str, typer.Option(envvar="TRACEPARENT", help="The trace that the uploads belong to (W3C).")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Copy files to the storage and enqueue them."""

    async def body(settings: "Settings") -> int:
        require_one_of("recipe", recipe, settings.recipe_book)
        files = list(find_files(paths))
        trace = _read_traceparent(traceparent)
        sent = await enqueue(files, settings, wait=wait, recipe=recipe, traceparent=trace)
        _report(sent, wait=wait, as_json=as_json)
        return 1 if any(one.status == "failed" for one in sent) else 0

    run(body)


def _read_traceparent(given: str) -> str | None:
    """The traceparent, if it is one: whatever else is wrong with a trace, files are enqueued."""
    found = parse_traceparent(given)
    if given and found is None:
        errors.print("The traceparent is none of the W3C's and is left out.")
    return found


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The regular files that `paths` name or contain, sorted; hidden ones and links only if they are named.

    A link in a folder may lead to what its owner never meant to upload.

    Raises: CommandError for a path that does not exist.
    """
    for path in map(Path.expanduser, paths):  # make and other callers do not expand a tilde
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                candidates = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
                yield from (one for one in candidates if one.is_file() and not one.is_symlink())
        elif path.is_file():
            yield path
        else:
            raise CommandError(f"There is no file or folder {path}.", code=2)


async def enqueue(
    files: Sequence[Path],
    settings: "Settings",
    *,
    wait: bool,
    recipe: str = "default",
    traceparent: str | None = None,
) -> Sequence[Sent]:
    """Copy `files` to the storage, enqueue each, and with `wait` follow them to their outcomes."""
    from worker.queue import open_queue
    from worker.receiving import Receiver
    from worker.stores import open_stores

    sent = [Sent(path) for path in files]
    async with open_stores(settings) as stores, open_queue(settings) as queue:
        await queue.ownership.check_not_of_another(stores.catalog.id)
        await _warn_of_other_recipes(queue, settings)
        receiver = Receiver(stores.blobs, queue.stream, settings.max_source_bytes, _FOLDER)
        since = await queue.messages.last_id() if wait else "0"  # an app may have no right to read
        follower = Follower(queue, since) if wait else None
        with Progress("pictures", len(sent)) as progress:
            announce = partial(receiver.announce, recipe=recipe, traceparent=traceparent)
            sending = _send_all(sent, receiver, announce, follower, progress)
            await (together(sending, follower.run(progress)) if follower else sending)
    return sent


async def _warn_of_other_recipes(queue: "Queue", settings: "Settings") -> None:
    from worker.other_recipes import find_other_recipes

    if settings.recipes is None:  # an app's host need not have the file
        return
    with suppress(QueueUnavailable):  # an app may have no right to read
        if others := find_other_recipes(await queue.heartbeats.reporting(), settings):
            errors.print(f"{safe(others.detail)}. {safe(others.advice)}", soft_wrap=True)


async def _send_all(
    sent: Sequence[Sent],
    receiver: "Receiver",
    announce: "Callable[[Received], Awaitable[str]]",
    follower: "Follower | None",
    progress: Progress,
) -> None:
    for one in sent:
        received = await _store(one, receiver)
        if follower is not None and received is not None:
            follower.expect(one)
        else:
            progress.advance(failed=received is None)
        if received is not None:
            one.entry = await announce(received)
    if follower is not None:
        follower.all_sent.set()


async def _store(sent: Sent, receiver: "Receiver") -> "Received | None":
    try:
        sent.bytes = sent.path.stat().st_size
        received = await receiver.store(partial(_chunks, sent.path), sent.path.name)
    except PictureRefused as error:
        sent.fail(error.code, str(error))
    except OSError as error:
        sent.fail("source_missing", f"The file cannot be read: {error.strerror}.")
    else:
        sent.id, sent.source = str(received.id), received.source
        return received
    return None


class Follower:
    """Reads the messages about the files that were sent."""

    def __init__(self, queue: "Queue", since: str) -> None:
        self._queue = queue
        self._since = since
        self._expected: dict[str, list[Sent]] = {}
        self._warn_at = time.monotonic() + _WARN_AFTER_S
        self.all_sent = asyncio.Event()

    def expect(self, sent: Sent) -> None:
        """Assign the next outcome of its upload to `sent`; several files may share one upload."""
        if sent.id is not None:
            self._expected.setdefault(sent.id, []).append(sent)

    async def run(self, progress: Progress) -> None:
        """Read messages until each file that was sent has an outcome."""
        while self._expected or not self.all_sent.is_set():
            for entry_id, message in await self._queue.messages.after(self._since, block_ms=200):
                self._since = entry_id
                for sent in self._sent_about(message):
                    _note(sent, message)
                    progress.advance(failed=sent.status == "failed")
            await self._warn_without_worker()
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError  # wait_for, which redis-py uses, may lose it on Python 3.11

    def _sent_about(self, message: Mapping[str, Any]) -> Sequence[Sent]:
        """The files that `message` is about; one about an entry is only about the file sent with it."""
        if not _is_outcome(message):
            return []
        waiting = self._expected.pop(str(message.get("id")), [])
        others = [one for one in waiting if one.entry not in (None, message.get("entry", one.entry))]
        if others:
            self._expected[str(message.get("id"))] = others
        return [one for one in waiting if one not in others]

    async def _warn_without_worker(self) -> None:
        if time.monotonic() > self._warn_at:
            self._warn_at = math.inf
            if not await self._queue.heartbeats.any_healthy():
                errors.print("No worker is running; waiting for one (`media worker`).")


def _is_outcome(message: Mapping[str, Any]) -> bool:
    """Whether `message` is a worker's about an upload; other programs may write to that stream too."""
    match message:
        case {"type": "upload.ready", "variants": [*variants]}:
            return isinstance(message.get("original"), dict | None) and all(
                isinstance(variant, dict) and variant.keys() >= _OF_A_VARIANT for variant in variants
            )
        case {"type": "upload.failed", "error": {"code": str(), "message": str()}}:
            return True
    return message.get("type") == "upload.deleted"


def _note(sent: Sent, message: Mapping[str, Any]) -> None:
    match message["type"]:
        case "upload.ready":
            sent.status = "ready"
            sent.variants = message["variants"]
            sent.original = message.get("original")
            sent.placeholder = _placeholder_in(message)
        case "upload.failed":
            sent.fail(message["error"]["code"], message["error"]["message"])
        case _:
            sent.fail("deleted", "The upload was deleted.")


def _placeholder_in(message: Mapping[str, Any]) -> Placeholder:
    kinds: tuple[Kind, ...] = ("thumbhash", "blurhash")
    for kind in kinds:
        with suppress(ValueError):
            if isinstance(text := message.get(kind), str):
                return parse(kind, text)
    return NO_PLACEHOLDER


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    async with aiofiles.open(path, "rb") as file:
        while chunk := await file.read(_CHUNK):
            yield chunk


def _report(sent: Sequence[Sent], *, wait: bool, as_json: bool) -> None:
    if as_json:
        for one in sent:
            print_json(one.as_document())
        return
    failed = [(one.path, one.error["code"], one.error["message"]) for one in sent if one.error is not None]
    known = [(one.path, one.id) for one in sent if one.error is None]
    if known:
        _print_table("", ("file", "id"), known)
    if variants := [_row(one, variant) for one in sent for variant in one.variants]:
        output.print()
        _print_table("Variants", ("file", "variant", "#width", "#height", "key"), variants)
    if failed:
        output.print(table("Failed", ("file", "code", "reason"), failed))
    output.print(f"{len(known)} {'ready' if wait else 'enqueued'}, {len(failed)} failed")


def _print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of the first `_ROWS` rows, and how many more there are."""
    output.print(table(title, columns, rows[:_ROWS]))
    if len(rows) > _ROWS:
        output.print(f"… and {len(rows) - _ROWS} more; --json lists all.")


def _row(sent: Sent, variant: Mapping[str, Any]) -> Sequence[object]:
    return sent.path.name, variant["name"], variant["width"], variant["height"], variant["key"]
