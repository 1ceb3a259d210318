"""The queues of jobs, as anybody with redis-cli sees them: one of each worker, and one that is nobody's."""

from typing import Any

import redis

SHARED = "media:uploads:jobs"


def job_queues(server: redis.Redis) -> list[bytes]:
    """The keys of all queues there are."""
    return [SHARED.encode(), *server.scan_iter(f"{SHARED}:*", count=1000)]


def queued_jobs(server: redis.Redis) -> list[bytes]:
    """The ids in all queues."""
    jobs: list[bytes] = []
    for queue in job_queues(server):
        found: Any = server.zrange(queue, 0, -1)
        jobs += found
    return jobs


def queued_jobs_of_uploads(server: redis.Redis) -> list[bytes]:
    """The ids in all queues, without those of the periodic tasks, of which arq keeps one for each tick."""
    return [job for job in queued_jobs(server) if not is_of_a_tick(job)]


def is_of_a_tick(job: bytes) -> bool:
    """Whether a job's id is that of a periodic task."""
    return b":" in job
