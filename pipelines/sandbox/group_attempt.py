"""One attempt at several small pictures by one decoder: consent in advance, and all answers read together."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import structlog
from pydantic import ValidationError

from pipelines.errors import (
    DecoderBloated,
    DecoderCrashed,
    DecoderFailed,
    DecoderStarved,
    DecodeTimeout,
    PictureRefused,
    PipelineError,
    SourceChanged,
)
from pipelines.formats import MIB
from pipelines.sandbox.admission import Admission
from pipelines.sandbox.answers import (
    MAX_FRAME,
    Answered,
    Changed,
    Deferred,
    Done,
    Probed,
    Unchanged,
    WrittenAnswer,
)
from pipelines.sandbox.budget import Budget
from pipelines.sandbox.child import Child, read_places
from pipelines.sandbox.groups import GroupMember, LateError, SingleError
from pipelines.sandbox.output_check import Rendered, check_output
from pipelines.sandbox.pool import MemoryGuard
from pipelines.sandbox.protocol import Task, as_request, error_of
from storage.errors import BlobsUnavailable
from storage.threads import in_thread

log = structlog.get_logger(__name__)

LONGEST_S = 3.0  # of the wall's, for a picture of a group: whatever takes longer may do so by itself
_CPU_S = 1.0
_MEMORY = 32 * MIB  # that is granted to each of them, before it is known what it needs
_JUDGED_INLINE = 2 * MIB  # more bytes of outputs are checked in a thread
# For a picture's answer, before its variants; the decoder has the same number.
_ANSWER_BYTES = 128 * 1024
_LENGTH_BYTES = 4
_MOST_CLAIMED_MS = 60_000.0
_USUAL_ANSWER_BYTES = 4096

# What is held against no picture of a group: in an exchange of its own it has all its time and memory.
_SETTLED_SINGLY = (DecodeTimeout, DecoderBloated, DecoderStarved, DecoderFailed, BlobsUnavailable)

Result = Rendered | Exception | None
Bloated = Callable[[int], bool]


class _Answers:
    """The answers in the outputs of a group, in their order; what was read once does not change any more."""

    def __init__(self, outputs: Sequence[int]) -> None:
        self._outputs = outputs
        self.found: list[bytes] = []

    def read(self) -> int:
        """Read those that have come since, and return how many there are."""
        while len(self.found) < len(self._outputs) and (answer := _answer_in(self._outputs[len(self.found)])):
            self.found.append(answer)
        return len(self.found)


def _answer_in(output: int) -> bytes:
    """The answer; empty where there is none yet, or one that no decoder may write."""
    part = os.pread(output, _USUAL_ANSWER_BYTES, 0)
    length = int.from_bytes(part[:_LENGTH_BYTES])
    if not 0 < length <= MAX_FRAME:
        return b""
    if _LENGTH_BYTES + length > len(part):
        part = os.pread(output, _LENGTH_BYTES + length, 0)
    answer = part[_LENGTH_BYTES : _LENGTH_BYTES + length]
    return answer if len(answer) == length else b""


@dataclass
class GroupAttempt:
    """One attempt at the pictures of a group, in their order.

    After it there are `results` for those that were begun, the last of which may be an error that was met on
    the way; the others were never begun.
    """

    child: Child
    group: Sequence[GroupMember]
    outputs: Sequence[int]
    guard: MemoryGuard
    admission: Admission
    cpu_s: float
    results: list[Result] = field(default_factory=list)
    claimed_ms: list[float] = field(default_factory=list)
    """What the decoder says that each of them took."""
    _taken: int = 0

    async def run(self) -> None:
        """Raises: NoMemoryError, OSError, and what ends the decoder: the last of the results, too."""
        owner = self.group[0].task.meter.owner
        with (
            self.admission.memory_now(_MEMORY, owner),
            self.guard.watch(self.child, _MEMORY) as is_too_much,
            self.child.lent(self.outputs),
        ):
            outputs, answers = self.outputs, _Answers(self.outputs)
            try:
                await self._exchange(answers, outputs, is_too_much)
            except (PipelineError, BlobsUnavailable) as error:
                await self._judge_all(answers, outputs)
                if len(self.results) < len(self.group):
                    self._blame(error)
                raise
            await self._judge_all(answers, outputs)
            if len(self.results) < len(self.group):
                raise self._blame(DecoderCrashed("the decoder answered fewer pictures than it was given"))

    async def _exchange(self, answers: _Answers, outputs: Sequence[int], is_too_much: Bloated) -> None:
        """Have all of them decoded, and watch each for as long as it is the one in work."""
        first = self.group[0].task
        request = {
            "group": [_request(one.task) for one in self.group],
            "variants": [as_request(variant) for variant in first.variants],
            "placeholder": first.placeholder,
            "granted": _MEMORY,
        }
        sources = [one.task.source_fd for one in self.group]
        await self.child.send(request, [*chain(*zip(sources, outputs, strict=True))])
        budget, done = self._budget(), 0

        def budget_now() -> Budget:
            nonlocal budget, done
            if answers.read() != done:
                budget, done = self._budget(), len(answers.found)
            return budget

        answer = await self.child.receive_within(budget_now, is_too_much)
        if not isinstance(answer, Answered):
            raise error_of(answer)

    def settle(self, cpu_s: float) -> Sequence[GroupMember]:
        """Give each what became of it, and its part of the CPU time; return those that were only late.

        Who was behind the end of a decoder goes singly: nobody ends two in a group.
        """
        late = []
        given = zip(self.group, self.results, self._shares(cpu_s), strict=False)
        for number, (one, result, share_s) in enumerate(given):
            one.task.meter.cpu_s += share_s
            if one.is_wanted and not isinstance(result, SingleError | LateError):
                one.task.release()  # nobody reads it again
            # The first of a group is never too late for it: each group gets something done.
            if number > 0 and isinstance(result, LateError):
                late.append(one)
            else:
                one.give(SingleError() if isinstance(result, LateError) else result)
        for one in self.group[len(self.results) :]:
            one.give(SingleError())
        return late

    def _shares(self, cpu_s: float) -> Sequence[float]:
        """Divide the CPU seconds of all among those that were begun, as far as the decoder is believed."""
        claimed = [ms if 0 < ms < _MOST_CLAIMED_MS else 0.0 for ms in self.claimed_ms]
        claimed += [0.0] * (len(self.results) - len(claimed))
        if len(claimed) > len(self.claimed_ms):  # whoever was met by an error pays what is left
            claimed[-1] = max(0.0, cpu_s * 1000 - sum(claimed))
        every = 1.0 if not any(claimed) else 0.0
        return [cpu_s * (ms + every) / (sum(claimed) + every * len(claimed)) for ms in claimed]

    def _budget(self) -> Budget:
        return Budget(min(self.cpu_s, _CPU_S), LONGEST_S)

    async def _judge_all(self, answers: _Answers, outputs: Sequence[int]) -> None:
        size = sum(max(0, os.fstat(output).st_size - _ANSWER_BYTES) for output in outputs)
        if size < _JUDGED_INLINE:
            self._judge(answers, outputs)
        else:
            await in_thread(self._judge, answers, outputs)

    def _judge(self, answers: _Answers, outputs: Sequence[int]) -> None:
        """Turn answers into results. Raises: what ends the decoder, and no answer after that is believed."""
        answers.read()
        for one, answer, output in zip(self.group, answers.found, outputs, strict=False):
            self.claimed_ms.append(0.0)
            try:
                self.results.append(self._result(one.task, answer, output))
            except (PictureRefused, SourceChanged, SingleError, LateError) as error:
                self.results.append(error)
            except (PipelineError, BlobsUnavailable) as error:
                raise self._blame(error) from None

    def _blame(self, error: PipelineError | BlobsUnavailable) -> PipelineError | BlobsUnavailable:
        """Let the first that has no result be the one that met that error; return it."""
        if isinstance(error, DecoderFailed):  # it may not happen again, and is a bug all the same
            log.warning("bug_in_group", reason=str(error), details=getattr(error, "__notes__", []))
        self.results.append(SingleError() if isinstance(error, _SETTLED_SINGLY) else error)
        return error

    def _result(self, task: Task, content: bytes, output: int) -> Rendered | None:
        try:
            written = WrittenAnswer.model_validate_json(content)
        except ValidationError as error:
            raise DecoderCrashed("the decoder answered what no decoder may answer") from error
        probed, answer = written.probed, written.answer
        match answer:
            case Done() if probed is not None and probed.estimate <= _MEMORY:
                self.claimed_ms[-1] = sum(answer.ms.values())
                return self._check(task, probed, answer, output)
            case Unchanged() if not task.wanted(answer.sha256):
                return None
            case Changed():
                raise SourceChanged("the original changed while it was being read")
            case Deferred():
                raise LateError if answer.late else SingleError
            case _:
                raise error_of(answer)

    def _check(self, task: Task, probed: Probed, done: Done, output: int) -> Rendered:
        """The variants of that picture, checked against what was asked for it."""
        if any(variant.start < _ANSWER_BYTES for variant in done.variants):
            raise DecoderCrashed("the decoder made variants that overlap its answer")
        most = self.guard.most_output(_MEMORY) - self._taken
        asked = task.wanted(probed.sha256), task.placeholder
        rendered = check_output(probed, done, *asked, partial(read_places, output), most)
        self._taken += sum(variant.bytes for variant in done.variants)
        return rendered


def _request(task: Task) -> dict[str, Any]:
    missing = [variant.name for variant in task.missing]
    return {"bytes": task.source_bytes, "known_sha256": task.known_sha256, "missing": missing}
