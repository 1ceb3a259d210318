"""How far a reader has come: where it goes on after a restart, and which messages it has had."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol


class Cursor(Protocol):
    """Keeps the ID of the last message that was handled. Of an async client both may be coroutines."""

    def load(self) -> Any:  # noqa: ANN401 (a text or None, or what is awaited for it)
        """That ID, None at first."""

    def save(self, last_id: str, /) -> Any:  # noqa: ANN401
        """Keep it."""


class SeqStore(Protocol):
    """Keeps the `seq` of the last message about each upload. Of an async client both may be coroutines."""

    def get(self, id: str, /) -> Any:  # noqa: ANN401 (a number or None, or what is awaited for it)
        """That of an upload, None where there was none."""

    def set(self, id: str, seq: int, /) -> Any:  # noqa: ANN401
        """Keep it."""


class MemoryCursor:
    """A cursor that ends with the process."""

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id

    def load(self) -> str | None:
        """The last ID."""
        return self.last_id

    def save(self, last_id: str) -> None:
        """Keep the last ID."""
        self.last_id = last_id


class FileCursor:
    """A cursor in a file, which is written aside and renamed: it is whole at any time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"FileCursor({str(self._path)!r})"

    def load(self) -> str | None:
        """The last ID; None without a file, and for one that a power failure has emptied."""
        try:
            return self._path.read_text("ascii", "backslashreplace").strip() or None
        except FileNotFoundError:
            return None

    def save(self, last_id: str) -> None:
        """Keep the last ID. Raises: OSError."""
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            aside.write_text(f"{last_id}\n", "ascii")
            aside.replace(self._path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                aside.unlink()


class MemorySeqs:
    """The `seq` of the uploads that were heard of last, in memory."""

    def __init__(self, uploads: int = 100_000) -> None:
        self._uploads = uploads
        self._seqs: OrderedDict[str, int] = OrderedDict()

    def get(self, id: str) -> int | None:
        """That of an upload."""
        return self._seqs.get(id)

    def set(self, id: str, seq: int) -> None:
        """Keep it, and forget those that were not heard of for longest."""
        self._seqs[id] = seq
        self._seqs.move_to_end(id)
        while len(self._seqs) > self._uploads:
            self._seqs.popitem(last=False)
