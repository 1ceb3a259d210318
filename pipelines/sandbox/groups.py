"""Small pictures of one owner that wait for a decoder at the same moment: they go to it together."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from dataclasses import dataclass, field

from pipelines.formats import Engine
from pipelines.placeholders import Kind
from pipelines.recipe import Variant
from pipelines.sandbox.output_check import Rendered
from pipelines.sandbox.protocol import Task
from pipelines.slots import Slots
from storage.tasks import completed
from storage.threads import copied

MOST_IN_GROUP = 8
SMALL_BYTES = 256 * 1024  # of a picture that may be in a group


class SingleError(Exception):
    """The picture is to be decoded in an exchange of its own, beside others."""


class LateError(Exception):
    """The group ended before it was the picture's turn: it is to be in the next one."""


@dataclass(eq=False)
class GroupMember:
    """A picture whose caller waits until it is `given` what became of it."""

    task: Task
    given: asyncio.Future[Rendered | None]
    group: "_Group | None" = None

    @property
    def is_wanted(self) -> bool:
        """Whether its caller still waits."""
        return not self.given.done()

    def give(self, result: Rendered | Exception | None) -> None:
        """Tell its caller, if it still waits."""
        if not self.is_wanted:
            return
        if isinstance(result, Exception):
            self.given.set_exception(result)
        else:
            self.given.set_result(result)


@dataclass(frozen=True)
class Alike:
    """What pictures of one group have in common."""

    owner: str
    engine: Engine
    variants: tuple[Variant, ...]
    placeholder: Kind


@dataclass(eq=False)
class _Group:
    """Pictures that go to a decoder together once there is a place for them."""

    alike: Alike
    waiting: deque[GroupMember] = field(default_factory=deque)
    work: asyncio.Task[None] | None = None
    has_place: bool = False


Decode = Callable[[Alike, Sequence[GroupMember]], Awaitable[Sequence[GroupMember]]]
"""Gives each of them what became of it, but for those that it returns: they are to be in the next group."""


Place = Callable[[str], AbstractAsyncContextManager[None]]
"""Waits until a group of that owner may begin, and holds its place among the slots."""


class Groups:
    """Forms groups of pictures: whoever comes while one waits for a place joins it, until it is full.

    Nobody waits for others to come: a group begins as soon as it has a place.
    """

    def __init__(self, slots: Slots, decode: Decode, place: Place | None = None) -> None:
        self._slots = slots
        self._place = place or slots.one
        self._decode = decode
        self._forming: dict[Alike, _Group] = {}

    async def render(self, task: Task, engine: Engine) -> Rendered | None:
        """What `decode` gives that picture. Raises: what it gives instead, SingleError among that.

        A caller that is cancelled leaves its group; the last one to leave waits until the decoder is ended.
        """
        alike = Alike(task.meter.owner, engine, tuple(task.variants), task.placeholder)
        one = GroupMember(task, asyncio.get_running_loop().create_future())
        self._join(alike, [one])
        try:
            return await one.given
        except asyncio.CancelledError:
            await self._leave(one)
            raise

    def _join(self, alike: Alike, some: Sequence[GroupMember]) -> None:
        """Let them wait, before those that wait already: they were there earlier, or there are none."""
        group = self._forming.get(alike)
        if group is None:
            group = self._forming[alike] = _Group(alike)
            # Nothing of the caller that happens to come first is meant for the others: no job id, no trace.
            group.work = asyncio.get_running_loop().create_task(self._run(group), context=Context())
        for one in some:
            one.group = group
            group.waiting.append(one)

    async def _leave(self, one: GroupMember) -> None:
        group = one.group
        if group is None or group.work is None or any(other.is_wanted for other in group.waiting):
            return
        if self._forming.get(group.alike) is group:
            del self._forming[group.alike]
        group.work.cancel()
        await completed(_end_of(group.work))

    async def _run(self, group: _Group) -> None:
        try:
            async with self._place(group.alike.owner):
                self._close(group)
                late = await self._decode(group.alike, [one for one in group.waiting if one.is_wanted])
            if left := [one for one in late if one.is_wanted]:
                self._join_first(group.alike, left)
        except Exception as error:
            for one in group.waiting:
                if one.group is group:
                    one.give(copied(error))
        finally:
            for one in group.waiting:  # a loop that ends has cancelled this
                if one.is_wanted and one.group is group:
                    one.given.cancel()
            group.waiting.clear()  # its members know it: else a collector would have to free what they got

    def _close(self, group: _Group) -> None:
        """Let nobody join any more: it has its place; who does not fit into it forms the next one."""
        del self._forming[group.alike]
        group.waiting = deque(one for one in group.waiting if one.is_wanted)
        free = self._slots.count - self._slots.busy
        most = min(MOST_IN_GROUP, math.ceil(len(group.waiting) / (free + 1)))
        if later := list(group.waiting)[most:]:
            for _ in later:
                group.waiting.pop()
            self._join(group.alike, later)

    def _join_first(self, alike: Alike, left: Sequence[GroupMember]) -> None:
        """Let those wait again that were first before; they are the first of the next group."""
        forming = self._forming.get(alike)
        behind = list(forming.waiting) if forming else []
        if forming is not None:
            forming.waiting.clear()
        self._join(alike, [*left, *behind])


async def _end_of(work: asyncio.Task[None]) -> None:
    await asyncio.wait({work})
