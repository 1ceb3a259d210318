"""What a copy has and its source has no more: who wrote it, and what may leave. Nothing is deleted here."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from storage.blobs import CheckIdentity, Existence, List, Move, Stat
from storage.blobs.copy_notes import CopyNotes, NoteVerbs
from storage.blobs.copying import Extra, pieces, set_aside
from storage.keys import UPLOADS, VARIANTS, copy_folder

_BATCH = 20_000  # keys that are looked up in the notes at once


class ExtrasFrom(Stat, CheckIdentity, Protocol):
    """The verbs of the source; none of them changes it."""


class ExtrasIn(NoteVerbs, Move, List, Protocol):
    """The verbs of the copy: what leaves it is moved to its trash."""


class Rows(Protocol):
    async def find_rows(self, keys: Sequence[str]) -> Collection[str]:
        """Those of these keys of variants that a row of the catalog has."""


@dataclass(frozen=True)
class ExtraStep:
    """Of a batch of what only the copy has: how many were moved to its trash, and which stay there."""

    removed: int
    extra: Sequence[str]


class Extras:
    """What `target`, a copy of `source`, has more than that; with `dry_run` nothing is moved.

    A variant goes where no row has it: it may be the only one. An original goes where a copy has written it,
    since the source had it then; others are an app's, and go only by `extra`. The trash empties itself.
    """

    def __init__(
        self, source: ExtrasFrom, target: ExtrasIn, rows: Rows, *, extra: Extra | None, dry_run: bool
    ) -> None:
        self._source = source
        self._target = target
        self._rows = rows
        self._extra = extra
        self._dry_run = dry_run
        self._folder = copy_folder(uuid4())

    async def set_aside(self) -> AsyncGenerator[ExtraStep, None]:
        """Move to the trash of the copy what may go; yields batch by batch. Raises: StorageError."""
        for area in (VARIANTS, UPLOADS):
            async with aclosing(self._gone(area)) as batches:
                async for gone in batches:
                    yield await self._set_aside(area, gone)

    async def _gone(self, area: str) -> AsyncGenerator[Sequence[str], None]:
        gone: list[str] = []
        async with aclosing(self._target.list(area)) as pages:
            async for page in pieces(pages):
                gone += await self._missing(page)
                if len(gone) >= _BATCH:
                    yield gone
                    gone = []
        if gone:
            yield gone

    async def _missing(self, keys: Sequence[str]) -> Sequence[str]:
        await self._source.check_identity()
        seen = await self._source.stat(keys)
        await self._source.check_identity()  # a storage that went away meanwhile had nothing
        return [key for key in keys if seen[key] is Existence.MISSING]

    async def _set_aside(self, area: str, gone: Sequence[str]) -> ExtraStep:
        leaving = await self._leaving(area, gone)
        stay = () if self._dry_run else await set_aside(self._target, self._folder, leaving)
        kept = set(gone).difference(leaving).union(stay) if area == UPLOADS else ()
        return ExtraStep(len(leaving) - len(stay), sorted(kept))

    async def _leaving(self, area: str, gone: Sequence[str]) -> Sequence[str]:
        if area == VARIANTS:
            rows = await self._rows.find_rows(gone)
            return [key for key in gone if key not in rows]
        if self._extra is Extra.TRASH:
            return gone
        ours = await CopyNotes(self._target).among(gone)
        return [key for key in gone if key in ours]
