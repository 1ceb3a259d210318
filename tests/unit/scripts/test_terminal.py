"""What people and programs see of a command."""

import asyncio
import gc
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from rich.console import Console

from scripts import terminal
from scripts.progress import Progress
from scripts.rebuild import _ask
from scripts.terminal import (
    CommandError,
    errors,
    output,
    print_error,
    print_json,
    run,
    safe,
    table,
)
from worker.settings import Settings
from worker.standard_error import StandardError, say


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "ünï ✓ 🎉",
        "\x1b[31m\x9b31m\x7f",
        "\u202e\u2066\u200b\ufeff",
        "\u2028\u2029\x85",
        "\U000e0041",
        "\ue000",
    ],
)
def test_json_is_one_line_and_shows_nothing_invisible(
    text: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    print_json({"text": text})

    line = capsysbinary.readouterr().out.decode()
    assert json.loads(line) == {"text": text}
    assert line.endswith("\n")
    assert line[:-1].isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]x[/red]", r"\[red]x\[/red]"),
        ("a\nb", r"a\nb"),
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
        (None, "None"),
    ],
)
def test_text_from_outside_has_no_markup_and_no_control_characters(text: object, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize("console", [output, errors], ids=["output", "errors"])
def test_a_name_with_colons_is_shown_as_it_is(console: Console) -> None:
    name = "uploads/a:up:b:smile:.jpg"

    with console.capture() as shown:
        console.print(safe(name))
        console.print(table("Uploads", ("source",), [(name,)]))

    assert shown.get().count(name) == 2


def test_lines_are_kept_where_they_may_be() -> None:
    assert safe("a\x07\nb", keep_lines=True) == "a\\x07\nb"


def nobody_reads() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


def closed() -> io.TextIOWrapper:
    stream = nobody_reads()
    stream.close()
    return stream


def closed_below() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(writer)
    stream = nobody_reads()
    os.dup2(reader, stream.fileno())  # what is written there is refused
    os.close(reader)
    return stream


def full() -> io.TextIOWrapper:
    return Path("/dev/full").open("w", buffering=1)


BROKEN = {"nobody reads": nobody_reads, "closed": closed, "not writable": closed_below, "a full disk": full}


@contextmanager
def broken(how: str) -> Iterator[None]:
    """Standard error, broken in that way; not as a fixture, for pytest gives each phase of a test its own."""
    stream, usual = BROKEN[how]() if how in BROKEN else None, sys.stderr
    sys.stderr = stream
    try:
        yield
    finally:
        sys.stderr = usual
    if stream is not None:
        stream.close()  # raises where something waits to be written that never can be, as Python's end does


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the settings are read from."""
    (tmp_path / "mine.env").write_text("MEDIA_LEASE=2\n")
    monkeypatch.setenv("MEDIA_ENV_FILE", str(tmp_path / "mine.env"))
    return tmp_path / "mine.env"


@pytest.mark.parametrize("how", [*BROKEN, "none"])
@pytest.mark.usefixtures("env_file")
def test_no_standard_error_keeps_a_command_from_its_work(how: str) -> None:
    done = []

    async def body(settings: Settings) -> int:
        print_error("Read this.")
        with Progress("pictures", 1) as progress:
            progress.advance()
        errors.print("x" * 100_000)
        say("also this")
        done.append(settings.lease)
        return 3

    with broken(how), pytest.raises(typer.Exit) as ended:
        run(body)

    assert done == [2]
    assert ended.value.exit_code == 3


@pytest.mark.parametrize("how", [*BROKEN, "none"])
@pytest.mark.usefixtures("env_file")
def test_a_command_that_fails_ends_with_its_code_though_its_message_is_lost(how: str) -> None:
    async def body(_: Settings) -> int:
        raise CommandError("no", code=7)

    with broken(how), pytest.raises(typer.Exit) as ended:
        run(body)

    assert ended.value.exit_code == 7


@pytest.mark.parametrize("how", ["nobody reads", "not writable", "a full disk"])
def test_a_question_that_cannot_be_printed_is_no_success(how: str) -> None:
    async def body(settings: Settings) -> int:
        _ask(settings)
        return 0

    with broken(how), pytest.raises(typer.Exit) as ended:
        run(body)

    assert ended.value.exit_code == 1


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "error", "prints_files", "said"),
    [
        (io.StringIO, None, False, False),
        (io.StringIO, CommandError("no"), False, True),
        (io.StringIO, OSError("no"), False, True),
        (Terminal, None, False, True),
        (Terminal, CommandError("no"), False, True),
        (Terminal, None, True, False),
    ],
)
def test_the_files_of_the_settings_are_said_on_a_terminal_and_elsewhere_beside_an_error(
    env_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    stream: type[io.StringIO],
    error: Exception | None,
    prints_files: bool,
    said: bool,
) -> None:
    async def body(_: Settings) -> int:
        if error is not None:
            raise error
        return 0

    seen = stream()
    monkeypatch.setattr(sys, "stderr", seen)
    with pytest.raises(typer.Exit):
        run(body, prints_files=prints_files)

    shown = seen.getvalue()
    assert shown.count(f"Settings are read from {env_file}") == said
    assert shown.startswith("no") == (error is not None and stream is io.StringIO)


def test_what_is_no_terminal_has_no_number_and_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)

    assert not StandardError().isatty()
    with pytest.raises(OSError, match="fileno"):
        StandardError().fileno()


def test_a_command_that_takes_a_while_collects_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "COLLECTS_AFTER_S", 0)

    async def body(_: Settings) -> int:
        gc.disable()  # as the command's entry does
        await asyncio.sleep(0)  # the turn of the loop in which that time has come
        return 0 if gc.isenabled() else 1

    try:
        with pytest.raises(typer.Exit) as ended:
            run(body)
    finally:
        gc.enable()
    assert ended.value.exit_code == 0
