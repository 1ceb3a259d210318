"""Whether a worker lives here and is healthy by its heartbeat, found out within seconds, whatever hangs.

`arq --check` asks, and `media health` where the worker serves no probes.
"""

import asyncio
import os
import signal
from contextlib import suppress
from functools import partial
from types import FrameType

from storage.blobs.opening import read_owner
from storage.threads import in_thread_within
from worker.queue import QueueUnavailable, open_queue
from worker.settings import Settings
from worker.standard_error import say

_TIMEOUT_S = 8  # of the whole check, whatever happens
_LIFE_TIMEOUT_S = 2  # for Redis, where only a heartbeat is looked for: an image allows 5 s, with the start
_ANSWERS_TIMEOUT_S, _STORAGE_TIMEOUT_S = 6, 2  # for Redis and the storage together, and for the storage


def check(settings: Settings) -> int:
    """Print whether a worker of this container, or of this host, is healthy; returns the exit code.

    arq's own check knows one key, and few of the options that a URL may have.
    """
    is_healthy, detail = examine(settings)
    say(f"Health check {'successful' if is_healthy else 'failed'}: {detail}")
    return 0 if is_healthy else 1


def examine(settings: Settings) -> tuple[bool, str]:
    """Whether a worker of this container, or of this host, is healthy, and its detail, in a few seconds.

    Where something hangs for good, it ends the process with 1.
    """
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_TIMEOUT_S)
    try:
        return asyncio.run(_check_workers(settings))
    except TimeoutError:  # a Redis that hangs is asked more than once
        return False, f"Redis does not answer within {_ANSWERS_TIMEOUT_S} s"
    except QueueUnavailable as error:
        return False, error.explain()


def examine_life(settings: Settings) -> tuple[bool | None, str]:
    """Whether a worker of this container, or of this host, sends heartbeats, and what is wrong if none does.

    None where Redis cannot say: in its outage nobody is to be restarted. Where something hangs for good, it
    ends the process with 0.
    """
    signal.signal(signal.SIGALRM, _give_up_life)
    signal.alarm(_LIFE_TIMEOUT_S + 1)
    try:
        return asyncio.run(_look_for_life(settings))
    except TimeoutError:
        return None, f"Redis does not answer within {_LIFE_TIMEOUT_S} s"
    except QueueUnavailable as error:
        return None, error.explain()


async def _look_for_life(settings: Settings) -> tuple[bool, str]:
    """Raises: QueueUnavailable; TimeoutError where Redis takes too long."""
    async with asyncio.timeout(_LIFE_TIMEOUT_S), open_queue(settings) as opened:
        workers = await opened.heartbeats.living()
    here = [worker for worker in workers if worker.is_here and not worker.is_of_ended_process]
    elsewhere = sum(not worker.is_here for worker in workers)
    return bool(here), f"no worker sends heartbeats here; {elsewhere} elsewhere"


async def _check_workers(settings: Settings) -> tuple[bool, str]:
    """Whether a worker of this installation is healthy here, and its detail for people.

    Raises: QueueUnavailable; TimeoutError where Redis takes too long.
    """
    async with asyncio.timeout(_ANSWERS_TIMEOUT_S), open_queue(settings) as opened:
        workers = await opened.heartbeats.living()
        here = [worker for worker in workers if worker.is_here]
        is_healthy = any(worker.healthy for worker in here)
        if here and not is_healthy:
            return False, here[0].detail
        try:
            # The storage folder says whose it is without the catalog's engine, which takes long to start.
            mine = await in_thread_within(_STORAGE_TIMEOUT_S, partial(read_owner, settings.storage_url))
        except TimeoutError:
            detail = f"does not answer within {_STORAGE_TIMEOUT_S} s"
            return False, f"the storage folder {settings.storage} {detail}"
        await opened.ownership.check_not_of_another(mine)
        if is_healthy:
            return True, next(worker.detail for worker in here if worker.healthy)
        detail = f"no worker is alive here; {len(workers)} elsewhere"
        if refusal := await opened.server.refusal():  # then one may be there, and wait for that to end
            detail = f"{refusal.by}: {refusal.what}; {detail}. {refusal.remedy}"
        return False, detail


def _give_up(_number: int, _frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"Health check failed: Redis, the storage folder or this machine took too long\n")
    os._exit(1)


def _give_up_life(_number: int, _frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(1, b"unknown: Redis or this machine took too long\n")
    os._exit(0)
