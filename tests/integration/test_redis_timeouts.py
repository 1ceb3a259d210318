"""A Redis that hangs is given up; that this process itself stood still is no sign of that."""

import asyncio
import time

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.queue import Queue, connection
from worker.queue.awake import AwakeTimeout, awake_within

_LIMIT_S = 0.25


def _stand_still() -> None:
    """As SIGSTOP does it: no timer of the loop runs, and what others send waits in the socket."""
    time.sleep(2 * _LIMIT_S)


async def test_an_answer_that_came_while_this_process_was_stopped_is_read(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SOCKET_TIMEOUT_S", _LIMIT_S)
    async with queue.redis.pipeline() as pipe:
        await pipe.watch("lock")  # as arq does before it starts a job; such a connection is not made again
        answer = asyncio.ensure_future(pipe.xread({"none": "$"}, block=50))
        await asyncio.sleep(0.01)

        _stand_still()

        assert await answer == []


async def test_a_redis_that_hangs_is_given_up(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SOCKET_TIMEOUT_S", _LIMIT_S)
    began = time.monotonic()

    with pytest.raises(RedisTimeoutError, match="does not answer"):
        await queue.redis.xread({"none": "$"}, block=60_000)

    assert _LIMIT_S <= time.monotonic() - began < 10


async def test_a_stop_does_not_end_a_limit_and_does_not_lift_it() -> None:
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        await _stop_within(_LIMIT_S)

    assert time.monotonic() - began >= 2.5 * _LIMIT_S


async def _stop_within(limit_s: float) -> None:
    async with AwakeTimeout(limit_s):
        await asyncio.sleep(0)
        _stand_still()
        await asyncio.Event().wait()


async def test_what_waits_more_than_once_returns_its_result_within_the_limit() -> None:
    async def body() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(_LIMIT_S / 20)
        with pytest.raises(LookupError):
            await asyncio.wait_for(_failing(), _LIMIT_S)
        return "done"

    assert await awake_within(_LIMIT_S, body()) == "done"


async def _failing() -> None:
    await asyncio.sleep(0)
    raise LookupError


async def test_what_waits_too_long_is_ended_and_so_is_what_is_cancelled() -> None:
    ended = []

    async def body() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(TimeoutError):
        await awake_within(_LIMIT_S / 10, body())
    waiting = asyncio.ensure_future(awake_within(60, body()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert ended == [True, True]


async def test_what_does_not_wait_takes_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> str:
        return "at once"

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", None)

    assert await awake_within(60, body()) == "at once"
