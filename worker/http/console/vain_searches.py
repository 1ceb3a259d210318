"""What is said to somebody whose search for a source found nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.stats.report import QueueDepth
from storage.catalog.reading import UploadFilter
from storage.catalog.records import State, Upload
from storage.errors import KeyRefused
from storage.keys import owner_of_source, source_key
from worker.http.console.bounded import BoundedQuestion, Unanswered
from worker.http.console.searches import sending_of
from worker.http.console.stored_files import StoredFiles
from worker.http.console.visitors import Visitor
from worker.http.face import Face
from worker.http.listing import bound
from worker.queue_depth import queue_depth

MOST_DELETED = 20  # that are counted


@dataclass(frozen=True)
class UnknownFile:
    """An original in the storage that no upload is of."""

    key: str
    sending: str
    """The command that announces it."""
    depth: QueueDepth | None
    """What waits, and who works; None: nobody says so, or not to this visitor."""
    adopted_after_s: int | None
    """After how long a worker takes it in by itself; None: it does not."""


@dataclass(frozen=True)
class VainSearch:
    """What there is instead of what was searched."""

    deleted: Sequence[Upload] = ()
    has_more_deleted: bool = False
    file: UnknownFile | None = None


class VainSearches:
    """Looks for what there is instead, where a search found nothing."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._files = face.shared(StoredFiles)
        self._depth = BoundedQuestion(lambda: queue_depth(face.queue))

    async def explain(self, visitor: Visitor, where: UploadFilter, *, by_source_alone: bool) -> VainSearch:
        """What there is instead of the uploads that are so. Raises: CatalogUnavailable."""
        gone = bound(replace(where, state=State.DELETED, hides_deleted=False), visitor.caller)
        if where.hides_deleted and gone is not None:
            deleted, place = await self._face.reader.page_within(gone, None, MOST_DELETED)
            if deleted:
                return VainSearch(deleted, has_more_deleted=place is not None)
        if by_source_alone and where.source_prefix and not visitor.is_demo:
            return VainSearch(file=await self._unknown_file(visitor, where.source_prefix))
        return VainSearch()

    async def _unknown_file(self, visitor: Visitor, key: str) -> UnknownFile | None:
        try:
            source_key(key)
        except KeyRefused:
            return None
        if not visitor.caller.may_see(key, owner_of_source(key)):
            return None
        if await self._face.reader.count(UploadFilter(source_prefix=key), 1) != 0:
            return None  # another's, whose event names its owner
        if not await self._files.is_there(key):
            return None
        settings = self._face.settings
        adopted_after_s = settings.grace if settings.adopt == "enqueue" else None
        depth = await self._ask_depth() if visitor.sees_all else None
        return UnknownFile(key, sending_of(settings.stream, key), depth, adopted_after_s)

    async def _ask_depth(self) -> QueueDepth | None:
        try:
            return await self._depth.answer()
        except Unanswered:
            return None
