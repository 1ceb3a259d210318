"""The steps that a procedure asks for, one after the other; a shell takes them, with or without `await`.

A procedure is a generator: it decides and never waits. What it yields is done for it, and what comes of that
is sent back, or raised where it stands. So the protocol is written once, for both kinds of clients.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

T = TypeVar("T")


@dataclass(frozen=True)
class Command:
    """A command of Redis; its reply comes back with texts as bytes, whatever the client decodes."""

    words: tuple[str | int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    """What redis-py has to know to read the reply."""


@dataclass(frozen=True)
class Call:
    """A function of the app's, whose result is awaited where it can be."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Pause:
    """Nothing, for so many seconds."""

    seconds: float


Step = Union[Command, Call, Pause]
Steps = Generator[Step, Any, T]
Entry = tuple[str, Mapping[str, Union[bytes, str]]]
"""An entry of a stream: its ID and its fields; without fields, it was trimmed or deleted."""


def command(*words: str | int, **options: bool) -> Command:
    """The command of these words."""
    return Command(words, options)


def entries_in(reply: Any) -> list[Entry]:  # noqa: ANN401 (in the forms of RESP2, RESP3 and redis-py 5 to 8)
    """The entries that XREAD or XREADGROUP found in one stream."""
    blocks = list(reply.values()) if isinstance(reply, dict) else [block[1] for block in reply or ()]
    found: list[Entry] = []
    for block in blocks:
        listed = block[0] if block and isinstance(block[0], list) else block
        found += entries_of(listed)
    return found


def entries_of(listed: Any) -> list[Entry]:  # noqa: ANN401
    """The entries of a list; Redis 6.2 has None for those that are deleted."""
    return [
        # The asynchronous client of redis-py 5.0 decodes, whatever it is told.
        (as_text(entry[0]), {as_text(name): value for name, value in (entry[1] or {}).items()})
        for entry in listed or ()
        if entry and entry[0] is not None
    ]


def as_text(value: Any) -> str:  # noqa: ANN401
    """A reply that is a text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def place(entry_id: str) -> tuple[int, int]:
    """An ID of a stream as numbers that can be compared."""
    ms, _, n = entry_id.partition("-")
    return int(ms), int(n or 0)
