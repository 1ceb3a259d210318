"""What people and programs see of a command: the one place that prints, escapes and ends with a code."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import IO, Annotated, Any, cast

import orjson
import typer
from rich.console import Console, ConsoleRenderable
from rich.markup import escape
from rich.table import Table

from pipelines.errors import PipelineError
from scripts.contact_sheet import visible
from storage.errors import StorageError
from worker.env_files import find_env_files
from worker.queue import QueueUnavailable
from worker.settings import Settings, SettingsError
from worker.standard_error import StandardError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]

_WIDE = 1000  # characters
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")

# A name may hold `:up:`, which is no emoji.
errors = Console(file=cast(IO[str], StandardError()), stderr=True, highlight=False, emoji=False)
# Whoever reads a table from a pipe wants whole lines.
output = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


class CommandError(Exception):
    """The command cannot do what was asked; the message is for the person who asked."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def run(body: Callable[[Settings], Coroutine[Any, Any, int]], *, tells_files: bool = False) -> None:
    """Run a command with the settings, and exit with the code that it returns.

    Wrong settings end it with 2; a catalog, storage or Redis that does not answer with 1; a signal with 128
    and its number, once everything that was opened is closed. Which files the settings are from is said on
    a terminal, and elsewhere beside an error, unless the command `tells_files` itself.
    """
    try:
        settings = Settings.load()
        if not tells_files:
            _tell_unread()
            if errors.file.isatty():
                _tell_files()
        code = asyncio.run(_until_stopped(body(settings)))
    except SettingsError as error:
        complain(f"Invalid settings:\n{error}")
        code = 2
    except CommandError as error:
        code = _fail(str(error), error.code)
    except (StorageError, PipelineError) as error:
        code = _fail(str(error))
    except QueueUnavailable as error:
        asks = "" if error.refusal else ". Is MEDIA_REDIS_URL right?"
        code = _fail(f"{error.explain()}{asks}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        code = 0
    except OSError as error:
        code = _fail(str(error))
    raise typer.Exit(code)


def _fail(message: str, code: int = 1) -> int:
    complain(message)
    if not errors.file.isatty():  # cron mails whatever is written there: it was not said before
        _tell_files()
    return code


def _tell_files() -> None:
    for file in find_env_files():
        if file.problem is None:
            errors.print(f"[dim]Settings are read from {safe(file.path)}[/dim]", soft_wrap=True)


def _tell_unread() -> None:
    for file in find_env_files():
        if file.problem:
            complain(f"{file.path} cannot be read ({file.problem}); its variables are ignored.")


async def _until_stopped(body: Coroutine[Any, Any, int]) -> int:
    # Not asyncio's own way, which knows only SIGINT and may cancel a task in the middle of a step.
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(body)
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not signals:
            raise
        return 128 + signals[0]


def require_one_of(what: str, name: str | None, known: Iterable[str]) -> None:
    """A name that nothing has would look like nothing to do. Raises: CommandError."""
    if name is not None and name not in known:
        raise CommandError(f"There is no {what} {name}; known: {', '.join(sorted(known))}.", code=2)


def complain(message: str) -> None:
    """Say on standard error what is wrong."""
    errors.print(f"[red]{safe(message, keep_lines=True)}[/red]", soft_wrap=True)


def safe(text: object, *, keep_lines: bool = False) -> str:
    """`text` from outside, for rich: no markup, and control characters made visible."""
    lines = str(text).split("\n") if keep_lines else [str(text)]
    return "\n".join(escape(visible(line)) for line in lines)


def print_json(document: object) -> None:
    """One JSON document on one line of standard output; what is invisible or breaks lines is escaped."""
    line = _UNPRINTABLE.sub(_escaped, orjson.dumps(document, default=str).decode())
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose cells are escaped, unless they are drawings; columns named `#…` are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None)
    for column in columns:
        number = column.startswith("#")
        made.add_column(column.lstrip("#"), justify="right" if number else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(_cell, row))
    return made


def _cell(content: object) -> ConsoleRenderable | str:
    if isinstance(content, ConsoleRenderable):
        return content
    return "" if content is None else safe(content)
