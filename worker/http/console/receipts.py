"""Receipts of actions: what was done, and what has become of it since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from storage.catalog.records import WAITING, State, Upload
from worker.http.console.bounded import queue_answer
from worker.http.console.visitors import Visitor
from worker.http.face import Face
from worker.http.failures import Handled
from worker.queue import QueueUnavailable

Action = Literal["retry", "discard", "delete"]
Things = Literal["uploads", "letters"]
DoneToken = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""As pages take it in their query, as `done`."""

SHOWN = 20  # uploads of each kind


def _ids(kept: object) -> object:
    return [kept[start : start + 32] for start in range(0, len(kept), 32)] if isinstance(kept, str) else kept


class Receipt(BaseModel):
    """What an action has done; `changed` had been dealt with by somebody else before.

    `owner` and `prefix` are what whoever did it is bound to.
    """

    model_config = ConfigDict(frozen=True)

    action: Action
    things: Things
    count: int
    kept: int = 0
    changed: int = 0
    more: bool = False
    uploads: Annotated[
        Sequence[UUID], BeforeValidator(_ids), PlainSerializer(lambda ids: "".join(each.hex for each in ids))
    ] = ()
    owner: str | None = None
    prefix: str | None = None

    @classmethod
    def of(cls, visitor: Visitor, action: Action, things: Things, done: Handled) -> Self:
        """What that visitor has done."""
        return cls(
            action=action,
            things=things,
            count=done.count,
            kept=done.kept,
            changed=done.changed + len(done.not_failed),
            more=done.more,
            uploads=done.uploads,
            owner=visitor.caller.owner,
            prefix=visitor.caller.prefix,
        )

    def is_for(self, visitor: Visitor) -> bool:
        """Whether it tells the visitor of no uploads but those that they may see."""
        return visitor.sees_all or (visitor.caller.owner, visitor.caller.prefix) == (self.owner, self.prefix)


@dataclass(frozen=True)
class DoneSince:
    """A receipt, and what has become of its uploads by now."""

    token: str
    receipt: Receipt
    counts: Mapping[State, int]

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
        return sum(self.counts.get(state, 0) for state in states)


async def keep_receipt(face: Face, receipt: Receipt) -> str:
    """Keep a receipt; returns its token. Raises: QueueUnavailable."""
    return await queue_answer(face.queue.receipts.keep(receipt.model_dump_json().encode()))


async def done_since(face: Face, visitor: Visitor, token: str | None) -> DoneSince | None:
    """What was done, and what has become of it; None where nobody knows any more, or Redis is away.

    Also where the visitor may not see all that it was done to. Raises: CatalogUnavailable.
    """
    receipt = None if token is None else await _find(face, token)
    if token is None or receipt is None or not receipt.is_for(visitor):
        return None
    counts = await face.reader.count_states(receipt.uploads) if receipt.action == "retry" else {}
    return DoneSince(token, receipt, counts)


async def _find(face: Face, token: str) -> Receipt | None:
    """The receipt, which may be of a server of another version; None where nobody can read it."""
    try:
        content = await queue_answer(face.queue.receipts.find(token))
        return None if content is None else Receipt.model_validate_json(content)
    except (QueueUnavailable, ValidationError):  # the page has more to show
        return None


async def uploads_in(
    face: Face, visitor: Visitor, receipt: Receipt, groups: Sequence[Sequence[State]]
) -> Sequence[Sequence[Upload]]:
    """The first few uploads of a receipt in each group of states, as far as the visitor may see them.

    Raises: CatalogUnavailable.
    """
    states = await face.reader.states(receipt.uploads)
    chosen = [[one for one in receipt.uploads if states.get(one) in group][:SHOWN] for group in groups]
    found = [[await face.reader.upload(one) for one in some] for some in chosen]
    may_see = visitor.caller.may_see
    return [[one for one in some if one is not None and may_see(one.source, one.owner)] for some in found]
