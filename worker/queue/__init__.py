"""Redis: the only place that names a key or a command. Entries in, jobs between, messages out."""

from worker.queue.client import Queue, ServerInfo, open_queue, queue_on
from worker.queue.connection import check_answers, connect, deserialize, serialize
from worker.queue.corrupt_jobs import MOST_UPLOADS
from worker.queue.errors import QueueRefused, QueueUnavailable, Refusal, StreamMismatch
from worker.queue.heartbeats import new_instance
from worker.queue.job_queues import job_queue_of
from worker.queue.jobs import PROCESS
from worker.queue.replies import LARGEST_REPLY
from worker.queue.stream import NoGroup, StreamEntry

__all__ = [
    "LARGEST_REPLY",
    "MOST_UPLOADS",
    "PROCESS",
    "NoGroup",
    "Queue",
    "QueueRefused",
    "QueueUnavailable",
    "Refusal",
    "ServerInfo",
    "StreamEntry",
    "StreamMismatch",
    "check_answers",
    "connect",
    "deserialize",
    "job_queue_of",
    "new_instance",
    "open_queue",
    "queue_on",
    "serialize",
]
