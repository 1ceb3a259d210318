"""How much waits in Redis, as reports say it."""

from pipelines.stats.report import QueueDepth
from worker.queue import Queue


async def queue_depth(queue: Queue) -> QueueDepth:
    """What waits, and how many workers live. Raises: QueueUnavailable."""
    return QueueDepth(
        depth=await queue.depth(),
        oldest_seconds=await queue.oldest_age_s(),
        jobs=await queue.jobs.waiting(),
        workers=len(await queue.heartbeats.living()),
    )
