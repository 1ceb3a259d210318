"""The composition root of `media serve`: opens what its routes share, and closes it in reverse order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from pipelines.backoff import Backoff
from storage.catalog.http_keys import HttpKey
from storage.catalog.reading import Reader
from storage.errors import (
    BackendMissing,
    BlobsUnfit,
    CatalogMoved,
    CatalogObsolete,
    CatalogTooNew,
    CatalogTooOld,
    CatalogUnfit,
    FileSystemUnfit,
    NoCatalog,
    RootMismatch,
    StorageError,
)
from worker.catalog_reader import open_catalog_reader
from worker.http.access import Access
from worker.http.console.pulse import Pulse
from worker.http.links import Links
from worker.http.problems import Problem, problem_of
from worker.http.tail import Tail
from worker.http.tokens import Tokens
from worker.queue import Queue, open_queue
from worker.settings import Settings
from worker.srcset import lasting_link
from worker.stores import Stores, open_stores

log = structlog.get_logger(__name__)

T = TypeVar("T")

_NOT_OPENED = "Catalog and storage are being opened. Try again soon."
_NO_CATALOG = (
    "There is no catalog: no worker has made it yet, or the disk it lies on is away. Try again soon."
)
_OTHER_STORAGE = (
    "The storage of this catalog is not there: its disk is away, or another storage is in its place. Try "
    "again soon; the log of the server says more."
)
_UNFIT = "Catalog and storage cannot be used as they are; the log of the server says why."


@dataclass(frozen=True)
class Opened:
    """What is behind the face, once it is there."""

    stores: Stores
    reader: Reader


class Face:
    """What the routes share. Catalog and storage may come after the first request."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.settings = settings
        self.queue = queue
        self.stopping = asyncio.Event()
        """Set once streams are to end, because the server stops."""
        self.access = Access(self._keys, Tokens(settings.http_secret), is_local=settings.http_is_local)
        signing = settings.http_secret if settings.http_files == "signed" else ""
        self.links = Links(settings.http_url, signing)
        self.lasting_link = lasting_link(settings.http_url, settings.http_files)
        """The links in messages."""
        self.tail = Tail(lambda: self.reader, queue.messages, self.lasting_link)
        self.pulse = Pulse(lambda: self.reader, self.tail, lambda: self.stores.catalog.outbox.now_ms())
        """What the console shows of the last hour; nobody counts where there is none."""
        self.opened = asyncio.Event()
        """Set once catalog and storage are there."""
        self._opened: Opened | None = None
        self._lack = _NOT_OPENED
        self._shared: dict[Callable[[Face], Any], Any] = {}

    def shared(self, make: Callable[["Face"], T]) -> T:
        """What `make` makes of this face: one, for all routes that ask for it."""
        if make not in self._shared:
            self._shared[make] = make(self)
        made: T = self._shared[make]
        return made

    @property
    def stores(self) -> Stores:
        """Catalog and storage. Raises: Problem (catalog_unavailable) before they are there."""
        return self._behind().stores

    @property
    def reader(self) -> Reader:
        """The quick way to read the catalog. Raises: Problem (catalog_unavailable) before it is there."""
        return self._behind().reader

    def _behind(self) -> Opened:
        if self._opened is None:
            raise Problem("catalog_unavailable", self._lack)
        return self._opened

    async def keep_open(self) -> None:
        """Open catalog and storage, as soon as they are there, and hold them until cancelled."""
        backoff, said = Backoff(first_s=0.2, longest_s=5), ""
        async with AsyncExitStack() as stack:
            while self._opened is None:
                try:
                    self._opened = await stack.enter_async_context(_open(self.settings))
                except StorageError as error:
                    self._lack = lack_of(error)
                    if str(error) != said:
                        log.warning("http_waits", reason=str(error))
                    said = str(error)
                except Exception:
                    log.exception("http_open_crashed")  # a bug, which need not end all for ever, unseen
                if self._opened is None:
                    await asyncio.sleep(backoff.next_s())
            self.opened.set()
            try:
                async with asyncio.TaskGroup() as following:
                    following.create_task(self.tail.follow(), name="follow-outbox")
                    if self.settings.console != "off":
                        following.create_task(self.pulse.follow(), name="count-outcomes")
            finally:
                self._opened = None

    async def end_waiting(self) -> None:
        """Once the server stops, wake all who wait for messages, so that they end."""
        await self.stopping.wait()
        self.tail.wake_all()

    async def _keys(self) -> Sequence[HttpKey]:
        return await self.reader.http_keys()


def lack_of(error: StorageError) -> str:
    """Why there is no answer yet, in words for whoever asks, which name no place."""
    match error:
        case CatalogTooOld() | CatalogTooNew():
            return str(error)
        case NoCatalog():
            return _NO_CATALOG
        case RootMismatch():
            return _OTHER_STORAGE
        case BackendMissing() | FileSystemUnfit() | BlobsUnfit():
            return _UNFIT
        case CatalogMoved() | CatalogObsolete() | CatalogUnfit():
            return _UNFIT
        case _:
            return problem_of(error).detail


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Opened]:
    async with (
        open_stores(settings, create=False) as stores,
        open_catalog_reader(settings) as reader,
    ):
        try:
            await stores.blobs.prepare()
        except StorageError as error:  # what is stored can be read all the same
            log.warning("uploads_not_prepared", reason=str(error))
        yield Opened(stores, reader)


@asynccontextmanager
async def open_face(settings: Settings) -> AsyncIterator[Face]:
    """The face on Redis, catalog and storage as the settings name them; none of them need be there yet."""
    async with open_queue(settings, must_answer=False) as queue:
        face = Face(settings, queue)
        tasks = [
            asyncio.create_task(face.keep_open(), name="open-stores"),
            asyncio.create_task(face.end_waiting(), name="end-waiting"),
        ]
        try:
            yield face
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
