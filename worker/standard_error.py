"""Standard error as everything but the log writes to it: whoever has gone away from it stops nobody."""

import io
import os
import sys
from contextlib import suppress
from typing import IO


class StandardError(io.TextIOBase):
    """The `sys.stderr` of the moment, where nothing that is written raises: what nobody takes is lost."""

    def write(self, text: str) -> int:
        """Write, if anybody takes it."""
        if (stream := _stream()) is not None:
            try:
                stream.write(text)
            except (OSError, ValueError):
                _give_up(stream)
        return len(text)

    def flush(self) -> None:
        """Have it written, if anybody takes it."""
        if (stream := _stream()) is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                _give_up(stream)

    def isatty(self) -> bool:
        """Whether that is a terminal."""
        try:
            return (stream := _stream()) is not None and stream.isatty()
        except ValueError:  # it is closed
            return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """How its text becomes bytes."""
        return getattr(_stream(), "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """Its descriptor. Raises: OSError where it has none."""
        if (stream := _stream()) is None:
            raise io.UnsupportedOperation("fileno")
        return stream.fileno()


def say(line: str) -> None:
    """Write one line, if anybody takes it."""
    error = StandardError()
    error.write(f"{line}\n")
    error.flush()


def _stream() -> IO[str] | None:
    # What a progress bar puts in its place writes to a console, which writes here.
    stream: IO[str] | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    return stream


def _give_up(stream: IO[str]) -> None:
    """Let what could not be written go, or Python tries again at its end and makes the exit code 120."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
