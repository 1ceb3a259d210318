"""The operations on failures: retry and discard failed uploads and dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pipelines.poison import DEADLY_CODES, remove_poison
from storage.catalog.opening import Catalog
from storage.catalog.records import DeadLetter, State, Upload
from worker.domains import origin_of
from worker.events import NO_FIELD
from worker.queue import Queue
from worker.queue.stream import UNREAD
from worker.stores import Stores

NO_EVENT = "its entry had no event to send, so it can only be discarded"

_ALL = 1_000_000_000


@dataclass(frozen=True)
class Chosen:
    """The failures that a person chose, with uploads that wait for another try if these count, too;
    `missing` are ids of none of them.
    """

    uploads: Sequence[Upload]
    letters: Sequence[DeadLetter]
    missing: Sequence[str]
    waiting: Sequence[Upload] = ()


@dataclass(frozen=True)
class TriedAgain:
    """The uploads that were still failed and are queued, those whose next try is due now, and the numbers
    of the dead letters that were sent.
    """

    queued: Sequence[UUID]
    due: Sequence[UUID]
    sent: Sequence[int]


async def choose(
    catalog: Catalog,
    ids: Sequence[UUID] | None,
    numbers: Sequence[int] | None,
    code: str | None,
    *,
    waits: bool = False,
) -> Chosen:
    """Failed uploads with these ids and dead letters with these numbers, or those of `code`; None: all.

    Where `waits`, also the uploads and deletions that wait for another try. Raises: CatalogUnavailable.
    """
    uploads = await catalog.failures.newest(_ALL, ids=ids, code=code)
    letters = await catalog.dead_letters.newest(_ALL, ids=numbers, code=code)
    waiting = await catalog.failures.waiting(_ALL, ids=ids, code=code) if waits else []
    found = {one.id for some in (uploads, letters, waiting) for one in some}
    asked = [*(ids or ()), *(numbers or ())]
    return Chosen(uploads, letters, [str(one) for one in asked if one not in found], waiting)


async def retry(chosen: Chosen, stores: Stores, queue: Queue) -> TriedAgain:
    """Queue the uploads again, send the dead letters once more, and take the contents off the poison list.

    What waits for another try is due now; all of it waits for its owner's turn. Letters without an event stay
    as they are, and so do those of apps whose streams are no more: sent to that of all apps, they could speak
    of everything.

    Raises: StorageError, QueueUnavailable.
    """
    await queue.stream.depth()  # a Redis that is unreachable is found before anything is changed
    deadly = [one.source for one in chosen.uploads if one.error_code in DEADLY_CODES and one.source]
    await remove_poison(deadly, stores.blobs, stores.catalog.poison)
    queued = await stores.catalog.requeuer.requeue([upload.id for upload in chosen.uploads], State.FAILED)
    due = await stores.catalog.requeuer.make_due([upload.id for upload in chosen.waiting])
    letters = []
    for letter in filter(has_event, chosen.letters):
        stream, _ = origin_of(letter.message)
        if stream is None:
            await queue.stream.add_raw(letter.body)
        elif queue.apps.domains.of_stream(stream):
            await queue.apps.send(stream, letter.body)
        else:
            continue
        letters.append(letter)
    sent = [letter.id for letter in letters]
    await stores.catalog.dead_letters.discard(sent)
    return TriedAgain(queued, due, sent)


def has_event(letter: DeadLetter) -> bool:
    """Whether its bytes were read, in the field `event`, so that they can be sent once more.

    Where there was no such field, they are all others' names and values, which nobody can take apart again.
    """
    _, reason = origin_of(letter.message)
    return reason not in (NO_FIELD, *UNREAD)


async def discard(chosen: Chosen, catalog: Catalog) -> Sequence[UUID]:
    """Delete dead letters, and make failed uploads without variants tombstones; returns the ids of these.

    Raises: CatalogUnavailable.
    """
    gone = await catalog.failures.discard([upload.id for upload in chosen.uploads])
    await catalog.dead_letters.discard([letter.id for letter in chosen.letters])
    return gone
