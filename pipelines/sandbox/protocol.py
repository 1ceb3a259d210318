"""One attempt at one picture: a decoder reads the header, waits for consent, decodes, and answers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

from pipelines.accounts import Meter
from pipelines.allowance import CHILD_MEMORY
from pipelines.errors import (
    DecoderCrashed,
    DecoderFailed,
    DecoderStarved,
    PictureRefused,
    PipelineError,
    SourceChanged,
)
from pipelines.formats import MIB
from pipelines.placeholders import Kind
from pipelines.recipe import Variant
from pipelines.sandbox.admission import Admission, NoMemoryError
from pipelines.sandbox.answers import (
    Answer,
    Bug,
    Changed,
    Done,
    Probed,
    Refused,
    Starved,
    Unchanged,
    Unwritable,
)
from pipelines.sandbox.budget import Budget
from pipelines.sandbox.child import Child
from pipelines.sandbox.output_check import Rendered, check_output
from pipelines.sandbox.pool import MemoryGuard
from pipelines.sandbox.time_limit import cpu_limit
from storage.errors import BlobsUnavailable, unwritable
from storage.threads import in_thread

WALL_FACTOR = 3  # a throttled core must not fail good pictures
_PROBING_SHARE, _PROBING_LEAST_S = 1 / 4, 1.0  # of a picture's time, for its header
_PROBING_MEMORY = CHILD_MEMORY  # growth, beside the source itself, before a picture has an estimate
_CHECKED_INLINE = 2 * MIB  # more bytes of variants are checked in a thread


@dataclass
class Task:
    """A picture to decode: the descriptor of its file, its size, and what to make of it.

    Of the content `known_sha256` all variants are there but the `missing` ones.
    """

    source_fd: int
    source_bytes: int
    variants: Sequence[Variant]
    known_sha256: str | None
    missing: Sequence[Variant] = ()
    placeholder: Kind = "thumbhash"
    needs_new_child: bool = False
    has_used_child: bool = False
    fetch: Callable[[], Awaitable[None]] | None = None
    """Has the file's bytes at its descriptor, and `release` returns their memory, where they take any."""
    release: Callable[[], None] = lambda: None
    meter: Meter = field(default_factory=Meter)
    """Counts what decoders take for it."""

    def wanted(self, sha256: str) -> Sequence[Variant]:
        """Those to make of that content."""
        return self.missing if sha256 == self.known_sha256 else self.variants


@dataclass(frozen=True)
class Attempt:
    """One attempt at a picture by one decoder, within `cpu_s`; `granted` bytes are reserved already."""

    child: Child
    task: Task
    guard: MemoryGuard
    admission: Admission
    cpu_s: float
    granted: int | None

    async def run(self) -> Rendered | None:
        """The checked variants, None for known content. Raises: as `Sandbox.render`, and NoMemoryError."""
        budget = Budget(self.cpu_s, self.cpu_s * WALL_FACTOR)
        answer = await self._probe(budget)
        self.task.release()  # the child has read it all
        match answer:
            case Probed():
                budget.has_picture = True
                done = await self._proceed(answer, budget)
                most = self.guard.most_output(answer.estimate)
                asked = self.task.wanted(answer.sha256), self.task.placeholder
                check = partial(check_output, answer, done, *asked, self.child.take_output, most)
                # The usual is checked in a millisecond, of which the way to a thread takes a part.
                is_small = sum(written.bytes for written in done.variants) < _CHECKED_INLINE
                return check() if is_small else await in_thread(check)
            case Unchanged() if not self.task.wanted(answer.sha256):
                return None
            case Changed():
                raise SourceChanged("the original changed while it was being read")
            case _:
                raise error_of(answer)

    async def _probe(self, budget: Budget) -> Answer:
        task = self.task
        request = {
            "bytes": task.source_bytes,
            "known_sha256": task.known_sha256,
            "missing": [variant.name for variant in task.missing],
            "variants": [as_request(variant) for variant in task.variants],
            "placeholder": task.placeholder,
            "most": self.guard.most,  # bytes of memory: one that takes more is refused
        }
        await self.child.send(request, [task.source_fd])
        return await self.child.receive(
            budget,
            lambda growth: growth > task.source_bytes + _PROBING_MEMORY,
            max(_PROBING_LEAST_S, self.cpu_s * _PROBING_SHARE),
        )

    async def _proceed(self, probed: Probed, budget: Budget) -> Done:
        need = probed.estimate
        if need > self.guard.most:
            await self.child.send({"proceed": False})
            raise _too_much_memory(probed, self.guard.most)
        if self.granted is not None and need > self.granted:
            raise SourceChanged("the original changed while it waited for memory")
        try:
            is_granted, owner = self.granted is not None, self.task.meter.owner
            memory = nullcontext() if is_granted else self.admission.memory_now(need, owner)
            with memory, self.guard.watch(self.child, need) as is_too_much:
                await self.child.send({"proceed": True})
                answer = await self.child.receive(budget, is_too_much, self._limit(probed))
        except NoMemoryError:
            await self.child.send({"proceed": False})
            raise
        if not isinstance(answer, Done):
            raise error_of(answer)
        return answer

    def _limit(self, probed: Probed) -> float:
        return cpu_limit(self.cpu_s, probed, self.task.source_bytes, self.task.variants)


@lru_cache(maxsize=256)
def as_request(variant: Variant) -> Mapping[str, Any]:
    """What a child is told of that variant."""
    return asdict(variant)


def _too_much_memory(probed: Probed, most: int) -> PictureRefused:
    megapixels = probed.width * probed.height / 1e6
    return PictureRefused(
        "too_much_memory",
        f"Decoding this {probed.format} of {megapixels:.0f} megapixels would take about "
        f"{probed.estimate // MIB} MiB of memory; {most // MIB} MiB are there.",
    )


def error_of(answer: Answer) -> PipelineError | BlobsUnavailable:
    match answer:
        case Refused():
            refused = PictureRefused(answer.code, answer.message)
            if answer.traceback:
                refused.add_note(answer.traceback)
            return refused
        case Unwritable():
            return unwritable(answer.errno)
        case Starved():
            return DecoderStarved(answer.message)
        case Bug():
            failed = DecoderFailed(f"the decoder failed: {answer.message}")
            failed.add_note(answer.traceback)
            return failed
        case _:
            return DecoderCrashed("the decoder answered out of turn")
