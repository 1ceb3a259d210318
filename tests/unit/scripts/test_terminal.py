"""What people and programs see of a command."""

import json

import pytest
from rich.console import Console

from scripts.terminal import errors, moment, output, print_json, safe, size, table


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
def test_json_says_what_it_was_told_on_one_line_and_shows_nothing_invisible(
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


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (10_485_760, "10.5 MB"), (5e12, "5.0 TB")],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_a_moment_is_written_in_utc() -> None:
    assert moment(0) == "1970-01-01T00:00:00+00:00"
    assert moment(None) is None
