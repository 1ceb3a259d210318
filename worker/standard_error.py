"""Standard error for everything but the log: a reader that has gone away stops no command."""

import io
import os
import sys
from contextlib import suppress
from typing import IO


class StandardError(io.TextIOBase):
    """The present `sys.stderr`; writing never raises, and text that cannot be written is lost."""

    def write(self, text: str) -> int:
        if (stream := _stream()) is not None:
            try:
                stream.write(text)
            except (OSError, ValueError):
                _give_up(stream)
        return len(text)

    def flush(self) -> None:
        if (stream := _stream()) is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                _give_up(stream)

    def isatty(self) -> bool:
        try:
            return (stream := _stream()) is not None and stream.isatty()
        except ValueError:  # it is closed
            return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(_stream(), "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """The descriptor of standard error. Raises: OSError where it has none."""
        if (stream := _stream()) is None:
            raise io.UnsupportedOperation("fileno")
        return stream.fileno()


def say(line: str) -> None:
    """Write one line, or drop it."""
    error = StandardError()
    error.write(f"{line}\n")
    error.flush()


def _stream() -> IO[str] | None:
    # What a progress bar puts in its place writes to a console, which writes here.
    stream: IO[str] | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    return stream


def _give_up(stream: IO[str]) -> None:
    """Drop what could not be written, or Python tries again at its end and makes the exit code 120."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
