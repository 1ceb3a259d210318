"""The terminal: the one place that prints, escapes, and turns an outcome into an exit code."""

import asyncio
import gc
import json
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import orjson
import typer
from rich.console import Console, ConsoleRenderable
from rich.markup import escape
from rich.table import Table

from pipelines.errors import PipelineError
from storage.errors import StorageError
from worker.amounts import counted
from worker.env_files import find_env_files
from worker.queue.errors import QueueUnavailable
from worker.standard_error import StandardError

if TYPE_CHECKING:
    from worker.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]

COLLECTS_AFTER_S = 1.0  # until then a command makes hardly anything but what stays
_WIDE = 1000  # characters
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")

# A file name may contain `:up:`, which is no emoji.
errors = Console(file=cast(IO[str], StandardError()), stderr=True, highlight=False, emoji=False)
# In a pipe a row of a table is one line.
output = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


class CommandError(Exception):
    """The command cannot do what was asked; the message is for its user."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def run(body: Callable[["Settings"], Coroutine[Any, Any, int | None]], *, prints_files: bool = False) -> None:
    """Run a command with the settings, and exit with the code that it returns (None: 0).

    The code is 2 for wrong settings, 1 for a catalog, storage or Redis that does not answer, and 128 + number
    for a signal, after everything that was opened is closed. Unless the command `prints_files` itself, the
    files that the settings come from are printed on a terminal, and elsewhere beside an error.
    """
    from worker.settings import Settings, SettingsError  # the help of a command is shown without them

    try:
        settings = Settings.load()
        if not prints_files:
            _warn_of_unread_files()
            if errors.file.isatty():
                _print_files()
        code = asyncio.run(_until_stopped(body(settings)))
    except SettingsError as error:
        print_error(f"Invalid settings:\n{error}\nNothing starts with them.")
        code = 2
    except CommandError as error:
        code = _fail(str(error), error.code)
    except QueueUnavailable as error:
        asks = "" if error.refusal else ". Is MEDIA_REDIS_URL right?"
        code = _fail(f"{error.explain()}{asks}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the pipe has gone
        code = 0
    except (StorageError, PipelineError, OSError) as error:
        code = _fail(str(error))
    raise typer.Exit(code)


def _fail(message: str, code: int = 1) -> int:
    print_error(message)
    if not errors.file.isatty():  # not printed before, because cron mails whatever is written there
        _print_files()
    return code


def _print_files() -> None:
    for file in find_env_files():
        if file.problem is None:
            errors.print(f"[dim]Settings are read from {safe(file.path)}[/dim]", soft_wrap=True)


def _warn_of_unread_files() -> None:
    for file in find_env_files():
        if file.problem:
            print_error(f"{file.path} cannot be read ({file.problem}); its variables are ignored.")


async def _until_stopped(body: Coroutine[Any, Any, int | None]) -> int:
    # asyncio's own handler covers only SIGINT, and may cancel a task in the middle of a step.
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(body)
    loop.call_later(COLLECTS_AFTER_S, gc.enable)
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if not signals:
            raise
        return 128 + signals[0]


def require_one_of(what: str, name: str | None, known: Iterable[str]) -> None:
    """Refuse an unknown name, which would otherwise select nothing. Raises: CommandError."""
    if name is not None and name not in known:
        raise CommandError(f"There is no {what} {name}; known: {', '.join(sorted(known))}.", code=2)


def print_error(message: str) -> None:
    """Print an error message on standard error."""
    errors.print(f"[red]{safe(message, keep_lines=True)}[/red]", soft_wrap=True)


def safe(text: object, *, keep_lines: bool = False) -> str:
    """`text` from outside, escaped for rich: without markup, with control characters made visible."""
    lines = str(text).split("\n") if keep_lines else [str(text)]
    return "\n".join(escape(visible(line)) for line in lines)


def visible(text: str) -> str:
    r"""`text` with everything invisible, and everything that reverses text, escaped, like `\u202e`.

    Bytes of a file name that are not UTF-8 (Python's surrogate escapes) are shown as `\xff`. Not yet HTML.
    """
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def print_json(document: object) -> None:
    """One JSON document on one line of standard output; what is invisible or breaks lines is escaped."""
    line = _UNPRINTABLE.sub(_escaped, orjson.dumps(document, default=str).decode())
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def counted_are(number: int, noun: str) -> str:
    """`number` with its noun and `is` or `are`."""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table with escaped cells (but for those that rich renders); columns named `#…` are numbers."""
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
