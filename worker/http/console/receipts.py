"""Receipts of actions: what was done, and what has become of it since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import Field

from storage.catalog.records import WAITING, State, Upload
from worker.http.console.visitors import Visitor
from worker.http.face import Face
from worker.http.failures import Handled
from worker.queue import QueueUnavailable

Action = Literal["retry", "discard", "delete"]
Things = Literal["uploads", "letters"]
DoneToken = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""As pages take it in their query, as `done`."""

SHOWN = 20  # uploads of each kind


@dataclass(frozen=True)
class Receipt:
    """What an action has done; `changed` had been dealt with by somebody else before."""

    action: Action
    things: Things
    count: int
    kept: int = 0
    changed: int = 0
    more: bool = False
    uploads: Sequence[UUID] = ()

    @classmethod
    def of(cls, action: Action, things: Things, done: Handled) -> "Receipt":
        """What was done."""
        changed = done.changed + len(done.not_failed)
        return cls(action, things, done.count, done.kept, changed, done.more, done.uploads)


@dataclass(frozen=True)
class DoneSince:
    """A receipt, and what has become of its uploads by now."""

    token: str
    receipt: Receipt
    states: Mapping[UUID, State]

    @property
    def ready(self) -> int:
        """How many are ready."""
        return self._count(State.READY)

    @property
    def failed(self) -> int:
        """How many have failed again."""
        return self._count(State.FAILED)

    @property
    def waiting(self) -> int:
        """How many wait yet, or are being processed."""
        return self._count(*WAITING)

    def _count(self, *states: State) -> int:
        return sum(state in states for state in self.states.values())

    def newest(self, *states: State) -> Sequence[UUID]:
        """The first few that are in one of these states."""
        return [each for each in self.receipt.uploads if self.states.get(each) in states][:SHOWN]


async def keep_receipt(face: Face, receipt: Receipt) -> str:
    """Keep a receipt; returns its token. Raises: QueueUnavailable."""
    document = {**vars(receipt), "uploads": "".join(each.hex for each in receipt.uploads)}
    return await face.queue.receipts.keep(orjson.dumps(document))


async def done_since(face: Face, token: str | None) -> DoneSince | None:
    """What was done, and what has become of it; None where nobody knows any more, or Redis is away.

    Raises: CatalogUnavailable.
    """
    if token is None:
        return None
    try:
        content = await face.queue.receipts.find(token)
    except QueueUnavailable:  # the page has more to show
        content = None
    if content is None:
        return None
    document: dict[str, Any] = orjson.loads(content)
    ids = document["uploads"]
    uploads = [UUID(ids[start : start + 32]) for start in range(0, len(ids), 32)]
    receipt = Receipt(**{**document, "uploads": uploads})
    states = await face.reader.states(uploads) if receipt.action == "retry" else {}
    return DoneSince(token, receipt, states)


async def uploads_of(face: Face, visitor: Visitor, ids: Sequence[UUID]) -> Sequence[Upload]:
    """Those of the uploads that are there and that the visitor may see. Raises: CatalogUnavailable."""
    found = [await face.reader.upload(each) for each in ids]
    return [one for one in found if one is not None and visitor.caller.may_see(one.source, one.owner)]
