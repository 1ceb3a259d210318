"""`seq` never goes back: after a restore or a rebuild it begins above that of every earlier message."""

from storage.catalog.clock import now_ms
from storage.catalog.outbox import Outbox
from worker.queue import Queue


async def go_on_above(outbox: Outbox, queue: Queue, *, rebuilt: bool = False) -> int | None:
    """Number the next message above the newest one on the stream of messages.

    If the stream is empty, `seq` begins at the clock (ms since 1970, below 2**53), which is above everything
    counted one by one; but only for a catalog that has sent messages (it may be a backup) or was `rebuilt`.

    Returns the number that `seq` was raised to; None if the catalog's own is high enough.

    Raises: QueueUnavailable, CatalogUnavailable.
    """
    given = await outbox.given_seq()
    newest = await queue.messages.newest_seq()
    floor = newest or (now_ms() if given or rebuilt else 0)
    if floor <= given:
        return None
    await outbox.begin_above(floor)
    return floor
