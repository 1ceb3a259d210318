"""Questions that apps ask on the stream: each is answered by a message, which no catalog keeps."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from uuid import UUID

import structlog

from pipelines.metrics import NO_METRICS, Metrics
from pipelines.traces import NO_TRACES, Traces
from storage.catalog.events import announced_upload
from storage.catalog.intake import Event
from storage.catalog.questions import Questions
from storage.catalog.records import KnownUpload, StatusAsked, UploadRequested
from storage.errors import CatalogDamaged
from worker.documents import status_answer
from worker.events import InvalidEvent
from worker.queue import Queue, StreamEntry
from worker.srcset import Link

log = structlog.get_logger(__name__)

_LOOK = 1000  # entries before a question, among which the event of an unknown upload is looked for


class QuestionDesk:
    """Answers what was asked of one installation."""

    def __init__(
        self,
        queue: Queue,
        questions: Questions,
        parse: Callable[[StreamEntry], Event | StatusAsked],
        metrics: Metrics = NO_METRICS,
        traces: Traces = NO_TRACES,
        link: Link = str,
    ) -> None:
        """`parse` says what an entry of the stream says; `link` leads to a variant."""
        self._queue = queue
        self._questions = questions
        self._parse = parse
        self._metrics = metrics
        self._traces = traces
        self._link = link

    async def answer(self, asked: Sequence[StatusAsked]) -> Collection[str]:
        """Answer these questions; returns the IDs of those that met a damaged page of the catalog.

        Raises: CatalogUnavailable, QueueUnavailable; whoever asks again may have two answers then.
        """
        if not asked:
            return frozenset()
        try:
            known = await self._known(asked)
        except CatalogDamaged as error:
            if len(asked) > 1:  # one by one, so that a damaged row keeps no other from its answer
                return frozenset(chain.from_iterable([await self.answer([one]) for one in asked]))
            log.error("question_not_answered", stream_id=asked[0].stream_id, reason=str(error))  # noqa: TRY400
            return {asked[0].stream_id}
        now = self._questions.now_ms()
        answers = [status_answer(one, _visible(known.get(one.id), one), now, self._link) for one in asked]
        told = self._queue.apps.domains.told
        with self._traces.sending(answers):
            await self._queue.messages.answer(answers, [told(_stream_of(one), None) for one in asked])
        self._metrics.messages_sent([answer["type"] for answer in answers])
        return frozenset()

    async def _known(self, asked: Sequence[StatusAsked]) -> Mapping[UUID, KnownUpload]:
        """What is known of the uploads, in rows or in events that another worker is about to record."""
        known = dict(await self._questions.find([one.id for one in asked]))
        unknown = [one for one in asked if one.id not in known]
        if unknown:
            waiting = await self._waiting(unknown)
            # Recorded since the first look, or gone from the stream before the second.
            known |= waiting | dict(await self._questions.find([one.id for one in unknown]))
        return known

    async def _waiting(self, asked: Sequence[StatusAsked]) -> dict[UUID, KnownUpload]:
        """Those of these uploads that events before the questions announce."""
        last = max(asked, key=lambda one: (one.position.ms, one.position.n))
        ids = {one.id for one in asked}
        found: dict[UUID, KnownUpload] = {}
        for entry in await self._queue.stream.before(last.stream_id, _LOOK):
            try:
                event = self._parse(entry)
            except InvalidEvent:
                continue
            if isinstance(event, UploadRequested) and event.id in ids:
                found.setdefault(event.id, KnownUpload(announced_upload(event)))
        return found


def _stream_of(asked: StatusAsked) -> str | None:
    return asked.domain.stream if asked.domain else None


def _visible(known: KnownUpload | None, asked: StatusAsked) -> KnownUpload | None:
    """What the app may know that asks: of another app's upload, nothing."""
    if known is None or asked.domain is None:
        return known
    source = known.upload.source
    return known if source is not None and asked.domain.holds(source) else None
