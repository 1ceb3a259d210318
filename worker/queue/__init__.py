"""Redis: the only place that names a key or a command. Entries in, jobs between, messages out.

What is named here is imported once it is asked for: whoever names an error, or checks a URL, needs no client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from storage.loading import in_parts

if TYPE_CHECKING:
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
_MODULES = {
    "client": ("Queue", "ServerInfo", "open_queue", "queue_on"),
    "connection": ("check_answers", "connect", "deserialize", "serialize"),
    "corrupt_jobs": ("MOST_UPLOADS",),
    "errors": ("QueueRefused", "QueueUnavailable", "Refusal", "StreamMismatch"),
    "heartbeats": ("new_instance",),
    "job_queues": ("job_queue_of",),
    "jobs": ("PROCESS",),
    "replies": ("LARGEST_REPLY",),
    "stream": ("NoGroup", "StreamEntry"),
}

in_parts("arq")  # a command needs its connections, and no cron and no worker
in_parts("jwt")  # Redis' client imports it for Microsoft's tokens


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module's attribute)
    for module, names in _MODULES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
