"""How deep the queue is: what the report says of Redis."""

from pipelines.stats.report import QueueDepth
from worker.queue import Queue


async def queue_depth(queue: Queue) -> QueueDepth:
    """How many events and jobs wait, and since when (seconds). Raises: QueueUnavailable."""
    return QueueDepth(
        depth=await queue.stream.depth(),
        oldest_seconds=await queue.stream.oldest_age_s(),
        jobs=await queue.jobs.waiting(),
        workers=len(await queue.heartbeats.living()),
    )
