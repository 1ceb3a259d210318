"""What a worker process says of itself to operators: who it is, and how much it has to do."""

import os
import socket
from functools import cache
from importlib.metadata import version

from pipelines.sandbox import Sandbox, decoder_version
from worker.degradation import resident
from worker.queue.heartbeats import WorkerInfo
from worker.status import Status


def describe_process(consumer: str, status: Status, recipes: str) -> WorkerInfo:
    """Who it is that works under that name, by recipes of that digest."""
    return WorkerInfo(
        state="starting",
        host=socket.gethostname(),
        pid=os.getpid(),
        consumer=consumer,
        up_s=int(status.up_s),
        recipes=recipes,
        **_versions(),
    )


def describe_worker(
    consumer: str, status: Status, recipes: str, sandbox: Sandbox, decoders: int, budget: int
) -> WorkerInfo:
    """Who it is, and what its decoders and its memory have to do, of a budget of so many bytes."""
    load = {
        "decoders": decoders,
        "busy": sandbox.admission.slots.busy,
        "memory": resident() + sandbox.pool.memory(),
        "budget": budget,
    }
    return describe_process(consumer, status, recipes).model_copy(update=load)


@cache
def _versions() -> dict[str, str]:
    return {"version": version("media-worker"), "decoders_version": decoder_version()}
