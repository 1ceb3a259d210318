"""The sandbox: pictures are decoded in child processes, some beside each other, and the rest alone."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from pipelines import formats
from pipelines.accounts import Accounts, Meter
from pipelines.allowance import Allowance
from pipelines.errors import (
    DecoderCrashed,
    DecoderKilled,
    DecoderStarved,
    DecodeTimeout,
    PipelineError,
)
from pipelines.formats import Engine
from pipelines.metrics import NO_METRICS, Metrics
from pipelines.placeholders import Kind
from pipelines.recipe import Variant
from pipelines.sandbox.admission import Admission, NoMemoryError
from pipelines.sandbox.answers import Hello
from pipelines.sandbox.child import Child, can_seal, sealable_outputs
from pipelines.sandbox.fork_server import DECODER, ForkServer
from pipelines.sandbox.group_attempt import LONGEST_S, GroupAttempt
from pipelines.sandbox.groups import SMALL_BYTES, Alike, GroupMember, Groups, SingleError
from pipelines.sandbox.output_check import Rendered
from pipelines.sandbox.pool import MemoryGuard, Pool
from pipelines.sandbox.protocol import WALL_FACTOR, Attempt, Task
from pipelines.sandbox.rooms import Rooms
from storage.errors import BlobsUnavailable

# Beside others, and again once there is memory for it; both once more in a new child, where the storage left
# the first one hanging; and alone. Before all that a small one may be in a group; being late
# in others is a wait.
MOST_ATTEMPTS = 5
_LOOK_S = 1.0  # between two looks at decoders that have nothing to do
_DECODERS = ("pyvips-binary", "pillow", "pillow-heif")
_AN_EXTRA = "simplejpeg"


class Sandbox:
    """Renders pictures in children; hold it through `open_sandbox`."""

    def __init__(
        self,
        allowance: Allowance,
        command: Sequence[str] = DECODER,
        metrics: Metrics = NO_METRICS,
        accounts: Accounts | None = None,
        spawned: ForkServer | None = None,
    ) -> None:
        self._cpu_s = allowance.image_timeout_s
        self._max_source_bytes = allowance.max_source_bytes
        self.pool = Pool(allowance, command, metrics, spawned)
        self.guard = MemoryGuard(allowance.memory_alone, self.pool.growth)
        self._accounts = accounts or Accounts()
        self.admission = Admission(allowance.decoders, allowance.memory_shared, self._accounts)
        self._may_group = allowance.isolation != "picture" and can_seal()
        self.rooms = Rooms(allowance.decoders, self._accounts, groups=self._may_group)
        self._groups = Groups(self.admission.slots, self._decode_group, self._place)

    async def render(
        self,
        source_fd: int,
        source_bytes: int,
        variants: Sequence[Variant],
        known_sha256: str | None,
        *,
        missing: Sequence[Variant] = (),
        placeholder: Kind = "thumbhash",
        fetch: Callable[[], Awaitable[None]] | None = None,
        release: Callable[[], None] = lambda: None,
        meter: Meter | None = None,
    ) -> Rendered | None:
        """Read the picture at `source_fd` once and make each of `variants` of it, and a placeholder.

        Where its content is `known_sha256`, only the `missing` ones are made, to the bytes that they get
        beside the others; None where there are none of them.

        `fetch` has its bytes there once an attempt has its place, those of a small one before it waits for
        that; they take memory until `release`. A child that dies or starves on the picture, or waits past
        its time, costs it one more try alone, with no other decoder at work. `meter` counts what all of
        them take.

        Raises: PictureRefused, SourceChanged, DecodeTimeout, DecoderCrashed, DecoderFailed, DecoderKilled,
        DecoderStarved, DecoderUnavailable, BlobsUnavailable where the original cannot be read in time.
        """
        task = Task(
            *(source_fd, source_bytes, variants, known_sha256, missing, placeholder),
            fetch=fetch,
            release=release,
            meter=meter or Meter(),
        )
        task.meter.bytes = source_bytes
        try:
            return await self._in_a_child_that_reads(task)
        except (DecodeTimeout, DecoderCrashed, DecoderKilled, DecoderStarved) as error:
            if isinstance(error, DecodeTimeout) and error.of_cpu:
                raise  # whoever was beside it did not take that time
            return await self._exclusively(task)

    @property
    def has_decoders(self) -> bool:
        """Whether a decoder lives that was started before."""
        return len(self.pool) > 0

    async def watch_idle(self) -> None:
        """End, again and again, decoders that use the CPU although they have nothing to do."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.pool.end_restless()

    async def probe(self) -> None:
        """Start a decoder of the engine that could not be started last. Raises: DecoderUnavailable."""
        async with self.admission.slots.one():
            await self.pool.start_missing()

    async def hello(self, engine: Engine) -> Hello:
        """The hello of a decoder of that engine. Raises: DecoderUnavailable."""
        async with self.pool.borrow(engine) as child:
            return child.hello

    def _place(self, owner: str) -> AbstractAsyncContextManager[None]:
        return self.rooms.decoder(partial(self.admission.slots.one, owner))

    async def _in_a_child_that_reads(self, task: Task) -> Rendered | None:
        try:
            return await self._beside_others(task)
        except BlobsUnavailable:
            if not task.has_used_child:
                raise
            task.needs_new_child = True  # the picture before may have left the other hanging
            return await self._beside_others(task)

    async def _beside_others(self, task: Task) -> Rendered | None:
        try:
            return await self._decode(task)
        except NoMemoryError as big:
            if big.need > self.admission.budget:
                return await self._exclusively(task)
            owner = task.meter.owner
            async with self.admission.memory(big.need, owner), self._place(owner):
                return await self._attempt(task, granted=big.need)

    async def _decode(self, task: Task) -> Rendered | None:
        """What comes out, of a group where it is small and others wait, too. Raises: also NoMemoryError."""
        if self._may_group and task.source_bytes <= SMALL_BYTES and not task.needs_new_child:
            with suppress(SingleError):
                return await self._groups.render(task, await self._engine_of(task))
        async with self._place(task.meter.owner):
            return await self._attempt(task)

    async def _decode_group(self, alike: Alike, group: Sequence[GroupMember]) -> Sequence[GroupMember]:
        """Give each picture of the group what comes out; return those that were only late."""
        if len(group) == 1:
            await self._decode_only(group[0])
        if len(group) <= 1:
            return []
        meter, attempt = Meter(alike.owner), None
        try:
            # Opened first: where that fails, no decoder is to blame.
            with sealable_outputs(len(group)) as outputs:
                async with self._borrowed(alike.engine, meter) as child:
                    group = [one for one in group if one.is_wanted]
                    if not group:
                        return []
                    for one in group:
                        one.task.has_used_child = child.is_used
                    lent = outputs[: len(group)]
                    attempt = GroupAttempt(child, group, lent, self.guard, self.admission, self._cpu_s)
                    await attempt.run()
        except (NoMemoryError, OSError):  # for memory, or for its outputs
            for one in group:
                one.give(SingleError())
            return []
        except (PipelineError, BlobsUnavailable):
            if attempt is None:
                raise
        return attempt.settle(meter.cpu_s)

    async def _decode_only(self, one: GroupMember) -> None:
        try:
            one.give(await self._attempt(one.task))
        except Exception as error:  # for its caller
            one.give(error)

    async def _exclusively(self, task: Task) -> Rendered | None:
        async with self.rooms.decoder(partial(self.admission.exclusive, task.meter.owner)):
            await self.pool.end_idle()
            return await self._attempt(task, granted=self.guard.most)

    async def _attempt(self, task: Task, granted: int | None = None) -> Rendered | None:
        engine = await self._engine_of(task)
        async with self._borrowed(engine, task.meter, new=task.needs_new_child) as child:
            task.has_used_child = child.is_used
            return await Attempt(child, task, self.guard, self.admission, self._cpu_s, granted).run()

    async def _engine_of(self, task: Task) -> Engine:
        """That of the decoder for the picture, whose bytes are at hand then."""
        if task.fetch and task.source_bytes <= self._max_source_bytes:  # others are refused by their size
            await task.fetch()
        known = formats.sniff(os.pread(task.source_fd, formats.HEAD, 0))
        return known.engine if known else "vips"

    @asynccontextmanager
    async def _borrowed(self, engine: Engine, meter: Meter, *, new: bool = False) -> AsyncIterator[Child]:
        """A decoder for who pays for its time, and for the start of the next where it is ended."""
        child, before_s = None, meter.cpu_s
        try:
            async with self.pool.borrow(engine, meter.owner, new=new) as child:
                meter.cpu_s += child.start_debt_s  # it was started for this owner
                child.start_debt_s = 0.0
                with meter.running(child.cpu_s):
                    yield child
        finally:
            if child is not None and child not in self.pool:
                meter.cpu_s += child.start_cpu_s
            # At once, and not with its outcome: the next turn is given in a moment.
            self._accounts.use(meter.owner, meter.cpu_s - before_s)


@asynccontextmanager
async def open_sandbox(
    allowance: Allowance,
    command: Sequence[str] = DECODER,
    metrics: Metrics = NO_METRICS,
    accounts: Accounts | None = None,
    spawned: ForkServer | None = None,
) -> AsyncIterator[Sandbox]:
    """A sandbox with its decoders warmed up, which are gone at the end; owners take turns by `accounts`.

    Their parent is the one that was `spawned` for them, unless that has ended.

    Raises: DecoderUnavailable.
    """
    sandbox = Sandbox(allowance, command, metrics, accounts, spawned)
    try:
        await sandbox.pool.warm_up()
        yield sandbox
    finally:
        await sandbox.pool.close()


def longest_render_s(image_timeout_s: float) -> float:
    """Wall seconds that one `Sandbox.render` may work, without those in which it waits for others."""
    return LONGEST_S + MOST_ATTEMPTS * WALL_FACTOR * image_timeout_s


def decoder_version() -> str:
    """The versions of what decodes: a picture that killed another version may be harmless to this one."""
    versions = {package: version(package) for package in _DECODERS}
    with suppress(PackageNotFoundError):
        versions[_AN_EXTRA] = version(_AN_EXTRA)
    return ", ".join(f"{package} {number}" for package, number in versions.items())
