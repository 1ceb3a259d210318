"""The pool of decoders: started when missing, lent for one picture each, ended when bad; and its guard."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import structlog

from pipelines.allowance import Allowance
from pipelines.errors import (
    DecoderBloated,
    DecoderCrashed,
    DecoderKilled,
    DecoderUnavailable,
    DecodeTimeout,
    PictureRefused,
    PipelineError,
)
from pipelines.formats import MIB, Engine
from pipelines.metrics import NO_METRICS, End, Metrics
from pipelines.sandbox.admission import NoMemoryError
from pipelines.sandbox.child import Child
from pipelines.sandbox.fork_server import ForkServer, config_of
from storage.tasks import completed, together

log = structlog.get_logger(__name__)

_MAX_IDLE_GROWTH = 40 * MIB  # of an idle decoder; it trims its heap itself when 32 MiB of that are free
_SLIM = 8 * MIB  # growth that an idle decoder keeps when another is started: small pictures leave less
_ALTERNATE_S = 60.0  # within which owners who come again alternate
_MOST_ALTERNATING = 16  # owners
_OVERDRAFT = 1.25  # times its estimate that a picture may take before its decoder is killed,
_OVERDRAFT_BYTES = 16 * MIB  # and this: estimates of small pictures are rough
_MOST_IDLE_CPU_S = 0.5  # of a decoder that has nothing to do; after its answer it tidies up for a moment
_UNCONFINED = "decoders cannot be confined: the kernel refuses them a filter of system calls (seccomp)"
_CONFINE = "Allow it, on x86-64 or arm64, or set MEDIA_CONFINEMENT=try to decode without."


class Pool:
    """The decoders that live: idle ones by engine, and those at work."""

    def __init__(
        self,
        allowance: Allowance,
        command: Sequence[str],
        metrics: Metrics = NO_METRICS,
        spawned: ForkServer | None = None,
    ) -> None:
        self._allowance = allowance
        self._metrics = metrics
        self._cpu_ended_s = 0.0  # of decoders that are gone
        self._command = command
        self.idle: dict[Engine, list[Child]] = {"vips": [], "pillow": []}
        self._all: set[Child] = set()
        self._starting = 0
        self._short_of_memory = float("-inf"), ""
        self._failed_engine: Engine = "vips"  # which could not be started last
        self._spawned = spawned  # started for this pool, which still has to be set up
        self._server: ForkServer | None = None
        self._one_server = asyncio.Lock()
        self._gave_way: dict[str, float] = {}  # owners whose decoder was ended for its memory, and when
        self._alternate_until = float("-inf")
        self._warmed_up: set[Engine] = set()  # whose decoders have warmed up, forked from this server

    def __repr__(self) -> str:
        idle = ", ".join(f"{len(children)} {engine} idle" for engine, children in self.idle.items())
        return f"<Pool: {len(self)} decoders, {idle}, {self._starting} starting>"

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, child: Child) -> bool:
        return child in self._all

    async def warm_up(self) -> None:
        """Start as many decoders as may work at once. Raises: DecoderUnavailable."""
        missing = self._allowance.decoders - len(self.idle["vips"])
        self.idle["vips"] += await together(*(self._start("vips") for _ in range(missing)))

    async def start_missing(self) -> None:
        """Start a decoder of the engine that could not be started last, and keep it where one is missing.

        Raises: DecoderUnavailable.
        """
        engine = self._failed_engine
        child = await self._start(engine)
        if len(self.idle[engine]) < self._allowance.decoders:
            self.idle[engine].append(child)
        else:
            await self._end(child, "swapped")

    @asynccontextmanager
    async def borrow(
        self, engine: Engine, owner: str | None = None, *, new: bool = False
    ) -> AsyncIterator[Child]:
        """A decoder of that engine, for a picture of that owner; an error that leaves it in an unknown state
        ends it.

        Raises: DecoderUnavailable.
        """
        await self.end_restless()
        child = None if new else self._take_idle(engine, owner)
        if child is None:
            changes_owner = bool(self.idle[engine]) and not new
            child = await self._start(engine, owner)
            child.start_debt_s = child.start_cpu_s if changes_owner else 0.0
        child.owner = owner if owner is not None else child.owner
        try:
            yield child
        except BaseException as error:
            if isinstance(error, DecoderKilled) and error.for_memory:
                self._short_of_memory = time.monotonic(), str(error)
            unhurt = isinstance(error, PictureRefused | NoMemoryError)
            if unhurt and not isinstance(error, DecoderBloated):
                await self._give_back(child)
            else:
                await self._end(child, _why_ended(error))
            raise
        await self._give_back(child)

    def growth(self) -> int:
        """The bytes that all decoders together have now beyond what they had when they were ready."""
        return sum(child.memory() - child.idle_memory for child in self._all)

    def memory(self) -> int:
        """Bytes of memory that all decoders have now."""
        return sum(child.memory() for child in self._all)

    def cpu_s(self) -> float:
        """Seconds of CPU that all decoders have taken, those that are gone too."""
        return self._cpu_ended_s + sum(child.cpu_s() for child in self._all)

    def was_short_of_memory(self, within_s: float) -> str | None:
        """The message of the last decoder that the kernel killed for lack of memory, if it is not older."""
        at, reason = self._short_of_memory
        return reason if time.monotonic() - at < within_s else None

    async def end_restless(self) -> None:
        """End decoders that have used the CPU although they had nothing to do."""
        restless = [
            child for idle in self.idle.values() for child in idle if child.is_restless(_MOST_IDLE_CPU_S)
        ]
        if restless:
            await together(*(self._end(child, "restless") for child in restless))

    async def end_idle(self) -> None:
        await together(*(self._end(child, "swapped") for idle in self.idle.values() for child in idle[:]))

    async def close(self) -> None:
        """End all decoders, and what they are forked from."""
        await completed(self._close())

    async def _close(self) -> None:
        await together(*(child.kill() for child in self._all))
        self._all.clear()
        for idle in self.idle.values():
            idle.clear()
        if self._server is not None:
            await self._server.close()
            self._server = None

    def _take_idle(self, engine: Engine, owner: str | None) -> Child | None:
        """The decoder that rested last, best of those that have seen this owner's pictures."""
        idle, isolates = self.idle[engine], self._allowance.isolation != "off"
        fit = [one for one in idle if not isolates or owner is None or one.owner in (owner, None)]
        if not fit:
            return None
        child = next((one for one in reversed(fit) if one.owner == owner), fit[-1])
        idle.remove(child)
        return child

    async def _give_back(self, child: Child) -> None:
        if child.memory() - child.idle_memory >= _MAX_IDLE_GROWTH:
            await self._end(child, "fat")
        elif not child.is_silent():  # that would be taken for the answer to the next picture
            await self._end(child, "noisy")
        elif child.owner is not None and self._allowance.isolation == "picture":
            await self._end(child, "renewed")
        else:
            child.is_used = True
            child.rest()
            self.idle[child.engine].append(child)

    async def _start(self, engine: Engine, owner: str | None = None) -> Child:
        self._starting += 1  # before anything is awaited: two that start at once each make way
        try:
            await self._end_surplus(engine)
            await self._slim_idle(owner)
            child = await self._fork(engine)
            await self._require_confinement(child)
            self._warmed_up.add(engine)
            self._all.add(child)
            self._metrics.decoder_started(engine)
        except DecoderUnavailable:
            self._failed_engine = engine
            raise
        finally:
            self._starting -= 1
        return child

    async def _fork(self, engine: Engine) -> Child:
        server = await self._fork_server()
        try:
            return await Child.start(server, engine, warm_up=engine not in self._warmed_up)
        except DecoderUnavailable:
            if server.is_alive:
                raise
        return await Child.start(await self._fork_server(), engine, warm_up=True)

    async def _end_surplus(self, engine: Engine) -> None:
        """End the decoder that has rested for longest where there are as many as may live."""
        idle = [child for children in self.idle.values() for child in children]
        if len(self._all) + self._starting > self._allowance.children and idle:
            oldest = min(idle, key=lambda child: child.rests_since)
            await self._end(oldest, "renewed" if oldest.engine == engine else "swapped")

    async def _slim_idle(self, owner: str | None) -> None:
        """End idle decoders that large pictures of others have filled: theirs adds to that of one more.

        Where such an owner comes again soon, owners alternate: then they keep theirs, without that memory.
        """
        now = time.monotonic()
        if owner is not None and now - self._gave_way.pop(owner, float("-inf")) < _ALTERNATE_S:
            self._alternate_until = now + _ALTERNATE_S
        for child in [child for idle in self.idle.values() for child in idle]:
            if child.memory() - child.idle_memory <= _SLIM:
                continue
            if now < self._alternate_until or child.owner in (owner, None):
                await self._trim(child)
            else:
                self._gave_way = dict([*self._gave_way.items()][-_MOST_ALTERNATING:])
                self._gave_way[child.owner or ""] = now
                await self._end(child, "renewed")

    async def _trim(self, child: Child) -> None:
        try:
            await child.trim()
        except PipelineError:
            await self._end(child, "killed")

    async def _fork_server(self) -> ForkServer:
        async with self._one_server:
            if self._server is None or not self._server.is_alive:
                await self.end_idle()  # those of a server that is gone are, too
                if self._server is not None:
                    log.warning("decoder_parent_replaced", reason=self._server.end_reason)
                self._server = await (await self._next_server()).greeted()
                self._warmed_up.clear()
            return self._server

    async def _next_server(self) -> ForkServer:
        spawned, self._spawned = self._spawned, None
        if spawned is not None:
            if not spawned.has_ended:
                return spawned
            await spawned.close()
        return ForkServer.spawn(config_of(self._allowance), self._command)

    async def _require_confinement(self, child: Child) -> None:
        if self._allowance.confinement == "require" and not child.hello.calls_closed:
            await child.kill()
            raise DecoderUnavailable(_UNCONFINED, _CONFINE)

    async def _end(self, child: Child, reason: End) -> None:
        if child in self._all:
            self._all.discard(child)
            self._cpu_ended_s += child.cpu_s()
            self._metrics.decoder_ended(reason)
        for idle in self.idle.values():
            if child in idle:
                idle.remove(child)
        await child.kill()


def _why_ended(error: BaseException) -> End:
    match error:
        case DecodeTimeout():
            return "timeout"
        case DecoderBloated():
            return "bloated"
        case DecoderCrashed():
            return "crashed"
        case DecoderKilled():
            return "killed"
        case _:
            return "other"


class MemoryGuard:
    """Polices the memory of decoders at work: `most` bytes for one picture, and for all of them together."""

    def __init__(self, most: int, growth: Callable[[], int]) -> None:
        self.most = most
        self._growth = growth
        self._announced: dict[Child, int] = {}  # bytes that a working child is to have at most

    @contextmanager
    def watch(self, child: Child, need: int) -> Iterator[Callable[[int], bool]]:
        """Yield the test whether that growth of `child` is too much for a picture estimated at `need`."""
        before = child.memory() - child.idle_memory
        self._announced[child] = child.idle_memory + before + need
        try:
            yield lambda growth: self._is_too_much(child, growth - before, need)
        finally:
            del self._announced[child]

    def most_output(self, estimate: int) -> int:
        """Bytes of all variants of a picture: they count as its memory, and are there twice for a moment."""
        return int(min(estimate * _OVERDRAFT + _OVERDRAFT_BYTES, self.most / 2))

    def _is_too_much(self, child: Child, growth: int, need: int) -> bool:
        """Whether it is far beyond the estimate, or the farthest beyond where all together take too much."""
        if growth <= need:
            return False
        if growth > need * _OVERDRAFT + _OVERDRAFT_BYTES:
            return True
        if self._growth() <= self.most:
            return False
        return child is max(self._announced, key=lambda one: one.memory() - self._announced[one])
