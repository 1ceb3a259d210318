"""`seq` never goes back: after a restore or a rebuild it begins above all that was told before."""

from storage.catalog.clock import now_ms
from storage.catalog.outbox import Outbox
from worker.queue import Queue


async def go_on_above(outbox: Outbox, queue: Queue, *, rebuilt: bool = False) -> int | None:
    """Have the next message numbered above the newest that is on the stream of messages.

    Where none is there, the clock (ms since 1970, below 2**53) is above all that was counted one by one: it
    is taken for a catalog that has told something, which may be a backup, and for one that was `rebuilt`.
    Gives the number that was raised to; None where the catalog's own is above all already.

    Raises: QueueUnavailable, CatalogUnavailable.
    """
    given = await outbox.given_seq()
    newest = await queue.messages.newest_seq()
    floor = newest or (now_ms() if given or rebuilt else 0)
    if floor <= given:
        return None
    await outbox.begin_above(floor)
    return floor
