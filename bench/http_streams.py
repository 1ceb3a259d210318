"""How long a message takes from its commit to the clients of many streams."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.contenders import BenchError
from bench.http_client import Client, Load
from bench.http_server import Served

_TIME = re.compile(rb'"time":"([^"]+)"')
_WITHIN_S = 60.0


async def follow(
    where: Served, photos: Sequence[Path], streams: int, uploads: int, per_second: float
) -> Load:
    """Upload so many photos, with so many clients that follow all messages. Raises: BenchError."""
    found, complete = Load(), asyncio.Event()

    def told(line: bytes) -> None:
        if line.startswith(b"data:") and (committed := _TIME.search(line)):
            moment = datetime.fromisoformat(committed[1].decode())
            found.ms.append((time.time() - moment.timestamp()) * 1000)
            if len(found.ms) == streams * uploads:
                complete.set()

    readers = [_Reader(where.client) for _ in range(streams)]
    await asyncio.gather(*(reader.connect() for reader in readers))
    tasks = [asyncio.create_task(reader.read(told)) for reader in readers]
    try:
        began = time.perf_counter()
        for number in range(uploads):
            file = where.worker.place.uploads / f"stream-{number}.jpg"
            file.write_bytes(photos[number % len(photos)].read_bytes())
            where.worker.put([file])
            await asyncio.sleep(1 / per_second)
        async with asyncio.timeout(_WITHIN_S):
            await complete.wait()
        found.seconds = time.perf_counter() - began
    except TimeoutError:
        raise BenchError(f"only {len(found.ms)} of {streams * uploads} messages came") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


class _Reader:
    """A client that reads a stream."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def connect(self) -> None:
        """Begin the stream; it is there once its first line is."""
        where = urlsplit(self._client.url)
        self._lines, self._writer = await asyncio.open_connection(where.hostname, where.port)
        self._writer.write(self._client.request("/v1/events"))
        while not (await self._lines.readline()).startswith(b"retry:"):
            if self._lines.at_eof():
                raise BenchError("a stream did not begin")

    async def read(self, told: Callable[[bytes], None]) -> None:
        """Hand each line on until cancelled."""
        try:
            while line := await self._lines.readline():
                told(line)
        finally:
            self._writer.close()
