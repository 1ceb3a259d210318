"""What waits, as the health check and `media stats` report it."""

from scripts.redis_server import RedisServer
from worker.queue import Queue, connect, job_queue_of


async def test_a_worker_that_is_well_says_how_much_waits_and_since_when(server: RedisServer) -> None:
    redis = connect(server.url, job_queue_of("media:uploads"))
    queue = Queue(redis, "media:uploads", "me", 1000)
    nothing = await queue.stream.waits()
    a_minute_ago = await queue.stream.now_ms() - 60_000
    for number in range(3):
        await redis.xadd("media:uploads", {"event": b"{}"}, id=f"{a_minute_ago}-{number + 1}")

    something = await queue.stream.waits()
    await redis.aclose(close_connection_pool=True)
    assert nothing == "0 events wait"
    assert something in ("3 events wait, the oldest for 60 s", "3 events wait, the oldest for 61 s")
