"""Which workers live, for the pages that show it; and when nobody can say."""

import time
from collections.abc import Sequence

from worker.health import EXPIRY_S
from worker.http.face import Face
from worker.queue.heartbeats import ReportingWorker


async def living_workers(face: Face) -> Sequence[ReportingWorker] | None:
    """The living workers; None where Redis was away, and none has told of itself since.

    Raises: QueueUnavailable.
    """
    workers = await face.queue.heartbeats.reporting()
    if not workers and time.monotonic() - face.tail.redis_back_at < EXPIRY_S:
        return None  # what they had told before has expired, or was lost
    return workers
