"""Decoders as children: how many there are, how much each may take, and what they may answer."""

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

from pipelines import formats
from pipelines.errors import (
    DecoderBloated,
    DecoderCrashed,
    DecoderKilled,
    DecoderStarved,
    DecoderUnavailable,
    DecodeTimeout,
    PictureRefused,
    PipelineError,
    SourceChanged,
)
from pipelines.formats import MIB, Engine
from pipelines.recipe import Variant
from pipelines.sandbox.admission import Admission, NoRoomError
from pipelines.sandbox.answers import (
    Answer,
    Changed,
    Done,
    Hello,
    Probed,
    Refused,
    Starved,
    Unchanged,
    Unwritable,
)
from pipelines.sandbox.child import DECODER, TOO_CROWDED, Budget, Child
from pipelines.sandbox.drawn import check_claim, check_content, check_places
from storage.errors import BlobsUnavailable, unwritable
from storage.tasks import together
from storage.threads import in_thread

PARENT_MEMORY = 96 * MIB
CHILD_MEMORY = 96 * MIB  # an idle decoder, and one ordinary picture
_IDLE_MEMORY = CHILD_MEMORY // 2

_DECODERS = ("pyvips-binary", "pillow", "pillow-heif")
_WALL_FACTOR = 3  # a throttled core must not blame good pictures
_OVERDRAFT = 1.25  # times its estimate that a picture may take before its child is killed,
_SLACK = 16 * MIB  # and this: estimates of small pictures are rough
_PROBING_SHARE, _PROBING_LEAST_S = 1 / 4, 1.0  # of a picture's time, for its header
_PROBING = CHILD_MEMORY  # growth, beside the source itself, before a picture has an estimate
_AT_ONCE = 2 * MIB  # of variants are checked without a thread
_FAT = 40 * MIB  # growth that an idle child may keep; it tightens its heap when 32 of them are free


@dataclass(frozen=True)
class Allowance:
    """What pictures may cost. Sizes in bytes, times in CPU seconds."""

    decoders: int
    memory: int
    max_source_bytes: int
    max_pixels: int
    image_timeout_s: float
    accept_damaged: bool = False
    formats: Sequence[str] = field(default_factory=lambda: tuple(known.name for known in formats.FORMATS))


@dataclass(frozen=True)
class RenderedVariant:
    """A checked picture: its size in pixels, its file, and the SHA-256 of that."""

    name: str
    width: int
    height: int
    content: bytes
    sha256: str


@dataclass(frozen=True)
class Rendered:
    """What came of one picture."""

    sha256: str
    format: str
    width: int
    height: int
    color: str | None
    variants: Sequence[RenderedVariant]
    ms: Mapping[str, float]


@dataclass
class _Task:
    source_fd: int
    source_bytes: int
    wanted: Sequence[Variant]
    known_sha256: str | None
    needs_new_child: bool = False
    has_used_child: bool = False


class Sandbox:
    """Renders pictures in children; hold it through `open_sandbox`."""

    def __init__(self, allowance: Allowance, command: Sequence[str] = DECODER) -> None:
        self._allowance = allowance
        self._command = command
        room = allowance.memory - PARENT_MEMORY
        # One child more than work at once, so that pictures of both engines in turn start none.
        self._most_children = allowance.decoders + 1
        self.most = max(_IDLE_MEMORY, room - _IDLE_MEMORY)  # bytes for one picture, with no other child there
        budget = max(_IDLE_MEMORY, room - self._most_children * _IDLE_MEMORY)
        self.admission = Admission(allowance.decoders, budget)
        self._idle: dict[Engine, list[Child]] = {"vips": [], "pillow": []}
        self._all: set[Child] = set()
        self._starting = 0
        self._short_of_memory = float("-inf"), ""
        self._missed: Engine = "vips"  # the kind that could not be started last
        self._announced: dict[Child, int] = {}  # bytes that a working child is to have at most

    async def render(
        self,
        source_fd: int,
        source_bytes: int,
        wanted: Sequence[Variant],
        known_sha256: str | None,
    ) -> Rendered | None:
        """Read the picture at `source_fd` once and make each wanted variant of it.

        None when its content is `known_sha256`. A child that dies or starves on the picture, or runs past
        its time, costs it one more try alone.

        Raises: PictureRefused, SourceChanged, DecodeTimeout, DecoderCrashed, DecoderKilled, DecoderStarved,
        DecoderUnavailable, BlobsUnavailable where the original cannot be read in time.
        """
        task = _Task(source_fd, source_bytes, wanted, known_sha256)
        try:
            return await self._in_a_child_that_reads(task)
        except (DecodeTimeout, DecoderCrashed, DecoderKilled, DecoderStarved):
            return await self._alone(task)

    async def warm_up(self) -> None:
        """Start as many decoders as may work at once. Raises: DecoderUnavailable."""
        missing = self._allowance.decoders - len(self._idle["vips"])
        self._idle["vips"] += await together(*(self._start("vips") for _ in range(missing)))

    @property
    def has_decoders(self) -> bool:
        """Whether a decoder lives that was started before."""
        return bool(self._all)

    def was_short_of_memory(self, within_s: float) -> str | None:
        """What was said when the kernel killed a decoder for lack of memory, if that is not longer ago."""
        at, reason = self._short_of_memory
        return reason if time.monotonic() - at < within_s else None

    @property
    def has_slot(self) -> bool:
        """Whether a picture, or `probe`, would begin at once."""
        return self.admission.has_slot

    async def probe(self) -> None:
        """Start a decoder of the kind that could not be started last, and keep it where there is room.

        Raises: DecoderUnavailable.
        """
        engine = self._missed
        async with self.admission.slot():
            child = await self._start(engine)
            if len(self._idle[engine]) < self._allowance.decoders:
                self._idle[engine].append(child)
            else:
                await self._end(child)

    async def greet(self, engine: Engine) -> Hello:
        """What a decoder of that engine says of itself when it is ready. Raises: DecoderUnavailable."""
        async with self._borrow(engine) as child:
            return child.hello

    def growth(self) -> int:
        """The bytes that all decoders together have now beyond what they had when they were ready."""
        return sum(child.memory() - child.idle_memory for child in self._all)

    async def close(self) -> None:
        """End every child."""
        await together(*(child.kill() for child in self._all))
        self._all.clear()

    async def _in_a_child_that_reads(self, task: _Task) -> Rendered | None:
        try:
            return await self._beside_others(task)
        except BlobsUnavailable:
            if not task.has_used_child:
                raise
            task.needs_new_child = True  # the picture before may have left the other hanging
            return await self._beside_others(task)

    async def _beside_others(self, task: _Task) -> Rendered | None:
        try:
            async with self.admission.slot():
                return await self._attempt(task)
        except NoRoomError as big:
            if big.need > self.admission.budget:
                return await self._alone(task)
            async with self.admission.memory(big.need), self.admission.slot():
                return await self._attempt(task, granted=big.need)

    async def _alone(self, task: _Task) -> Rendered | None:
        async with self.admission.alone():
            await together(*(self._end(child) for idle in self._idle.values() for child in idle[:]))
            return await self._attempt(task, granted=self.most)

    async def _attempt(self, task: _Task, granted: int | None = None) -> Rendered | None:
        cpu_s = self._allowance.image_timeout_s
        budget = Budget(cpu_s, cpu_s * _WALL_FACTOR)
        known = formats.sniff(os.pread(task.source_fd, formats.HEAD, 0))
        async with self._borrow(known.engine if known else "vips", new=task.needs_new_child) as child:
            task.has_used_child = child.is_used
            request = {
                "bytes": task.source_bytes,
                "known_sha256": task.known_sha256,
                "variants": [_spec(variant) for variant in task.wanted],
            }
            await child.send(request, [task.source_fd])
            answer = await child.receive(
                budget,
                lambda growth: growth > task.source_bytes + _PROBING,
                max(_PROBING_LEAST_S, cpu_s * _PROBING_SHARE),
            )
            match answer:
                case Probed():
                    budget.has_picture = True
                    done = await self._proceed(child, answer, granted, budget)
                    check = partial(_checked, answer, done, task.wanted, child, self._most_drawn(answer))
                    # What is usual is checked in a millisecond, of which a visit to a thread takes a part.
                    usual = sum(written.bytes for written in done.variants) < _AT_ONCE
                    return check() if usual else await in_thread(check)
                case Unchanged() if answer.sha256 == task.known_sha256:
                    return None
                case Changed():
                    raise SourceChanged("the original changed while it was being read")
                case _:
                    raise _refusal(answer)

    async def _proceed(self, child: Child, probed: Probed, granted: int | None, budget: Budget) -> Done:
        need = probed.estimate
        if need > self.most:
            await child.send({"proceed": False})
            megapixels = probed.width * probed.height / 1e6
            raise PictureRefused(
                "too_much_memory",
                f"Decoding this {probed.format} of {megapixels:.0f} megapixels would take about "
                f"{need // MIB} MiB of memory; {self.most // MIB} MiB are there.",
            )
        if granted is not None and need > granted:
            raise SourceChanged("the original changed while it waited for memory")
        try:
            with self.admission.memory_now(need) if granted is None else nullcontext():
                before = child.memory() - child.idle_memory
                await child.send({"proceed": True})
                self._announced[child] = child.idle_memory + before + need
                answer = await child.receive(
                    budget, lambda growth: self._bloated(child, growth - before, need)
                )
        except NoRoomError:
            await child.send({"proceed": False})
            raise
        finally:
            self._announced.pop(child, None)
        if not isinstance(answer, Done):
            raise _refusal(answer)
        return answer

    def _bloated(self, child: Child, growth: int, need: int) -> bool:
        """Whether a picture takes more than it may: far beyond its estimate, or beyond it at others' cost.

        Of several beyond their estimates the one farthest beyond has to go.
        """
        if growth <= need:
            return False
        if growth > need * _OVERDRAFT + _SLACK:
            return True
        if self.growth() <= self.most:
            return False
        return child is max(self._announced, key=lambda one: one.memory() - self._announced[one])

    def _most_drawn(self, probed: Probed) -> int:
        """Bytes of variants: what the picture was let in for, and for a moment they are there twice."""
        return int(min(probed.estimate * _OVERDRAFT + _SLACK, self.most / 2))

    @asynccontextmanager
    async def _borrow(self, engine: Engine, *, new: bool = False) -> AsyncIterator[Child]:
        idle = self._idle[engine]
        child = idle.pop() if idle and not new else await self._start(engine)
        try:
            yield child
        except BaseException as error:
            if isinstance(error, DecoderKilled) and error.for_memory:
                self._short_of_memory = time.monotonic(), str(error)
            unhurt = isinstance(error, PictureRefused | NoRoomError)
            if unhurt and not isinstance(error, DecoderBloated):
                await self._give_back(child, engine)
            else:
                await self._end(child)
            raise
        await self._give_back(child, engine)

    async def _give_back(self, child: Child, engine: Engine) -> None:
        # What it says unasked would be taken for the answer to the next picture.
        if child.memory() - child.idle_memory < _FAT and child.is_silent():
            child.is_used = True
            self._idle[engine].append(child)
        else:
            await self._end(child)

    async def _start(self, engine: Engine) -> Child:
        others = [child for kind, idle in self._idle.items() if kind != engine for child in idle]
        self._starting += 1  # before anything is awaited: two that start at once each make room
        try:
            if len(self._all) + self._starting > self._most_children and others:
                await self._end(others[0])
            child = await Child.start(self._config(engine), self._command)
            self._all.add(child)
        except DecoderUnavailable:
            self._missed = engine
            raise
        finally:
            self._starting -= 1
        return child

    async def _end(self, child: Child) -> None:
        self._all.discard(child)
        for idle in self._idle.values():
            if child in idle:
                idle.remove(child)
        await child.kill()

    def _config(self, engine: Engine) -> dict[str, object]:
        allowance = self._allowance
        return {
            "engine": engine,
            "max_bytes": allowance.max_source_bytes,
            "max_pixels": allowance.max_pixels,
            "formats": list(allowance.formats),
            "damaged": "accept" if allowance.accept_damaged else "reject",
            "memory_mb": allowance.memory // MIB,
        }


@asynccontextmanager
async def open_sandbox(allowance: Allowance, command: Sequence[str] = DECODER) -> AsyncIterator[Sandbox]:
    """A sandbox with its decoders warmed up, which are gone at the end. Raises: DecoderUnavailable."""
    sandbox = Sandbox(allowance, command)
    try:
        await sandbox.warm_up()
        yield sandbox
    finally:
        await sandbox.close()


def decoder_version() -> str:
    """The versions of what decodes: a picture that killed another version may be harmless to this one."""
    return ", ".join(f"{package} {version(package)}" for package in _DECODERS)


def _spec(variant: Variant) -> dict[str, object]:
    return {
        "name": variant.name,
        "box": variant.box,
        "fit": variant.fit,
        "format": variant.format,
        "quality": variant.quality,
        "background": list(variant.background),
        "progressive": variant.progressive,
    }


def _refusal(answer: Answer) -> PipelineError | BlobsUnavailable:
    match answer:
        case Refused():
            return PictureRefused(answer.code, answer.message)
        case Unwritable():
            return unwritable(answer.errno)
        case Starved():
            return DecoderStarved(answer.message)
        case _:
            return DecoderCrashed("the decoder answered out of turn")


def _checked(probed: Probed, done: Done, wanted: Sequence[Variant], child: Child, most: int) -> Rendered:
    if any(getattr(done, name) != getattr(probed, name) for name in ("sha256", "format", "width", "height")):
        raise DecoderCrashed("the decoder made its variants of another picture than it had looked at")
    if [written.name for written in done.variants] != [variant.name for variant in wanted]:
        raise DecoderCrashed("the decoder made other variants than it was asked for")
    for written, variant in zip(done.variants, wanted, strict=True):
        check_claim(written, variant.size_of(done.width, done.height))
    check_places(done.variants, most)
    contents = child.drawn([(written.start, written.bytes) for written in done.variants])
    checked = [
        RenderedVariant(
            name=variant.name,
            width=written.width,
            height=written.height,
            content=content,
            sha256=check_content(content, variant, written),
        )
        for variant, written, content in zip(wanted, done.variants, contents, strict=True)
    ]
    return Rendered(done.sha256, done.format, done.width, done.height, done.color, checked, done.ms)


__all__ = [
    "CHILD_MEMORY",
    "DECODER",
    "PARENT_MEMORY",
    "TOO_CROWDED",
    "Allowance",
    "Rendered",
    "RenderedVariant",
    "Sandbox",
    "decoder_version",
    "open_sandbox",
]
