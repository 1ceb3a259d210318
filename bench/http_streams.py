"""`python -m bench.http_streams`: how long a message takes from its commit to the clients of many streams."""

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from bench import photos
from bench.compare import say
from bench.contenders import BenchError, MediaWorker
from bench.processes import cpu_ms, memory
from bench.rounds import place, started
from bench.statistics import percentile
from scripts.redis_server import temporary_redis

_TIME = re.compile(rb'"time":"([^"]+)"')
_ANSWERS_S = 20.0


def main() -> int:
    """Measure, print one JSON document; 0 when every client had every message."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--uploads", type=int, default=60)
    parser.add_argument("--per-second", type=float, default=5.0)
    parser.add_argument("--photos", type=Path)
    asked = parser.parse_args()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        server = stack.enter_context(temporary_redis())
        where = stack.enter_context(place(work, server, 1))
        worker = stack.enter_context(started(MediaWorker, where, sorted(os.sched_getaffinity(0))))
        assert isinstance(worker, MediaWorker)
        files = photos.copied(photos.find(asked.photos), work / "photos")
        found = asyncio.run(_Run(worker, files, asked.streams, asked.uploads, asked.per_second).go())
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["messages"] == asked.uploads * asked.streams else 1


class _Run:
    def __init__(
        self, worker: MediaWorker, files: object, streams: int, uploads: int, per_second: float
    ) -> None:
        self._worker = worker
        self._files = list(files)  # type: ignore[call-overload]
        self._streams, self._uploads, self._per_second = streams, uploads, per_second
        self._ms: list[float] = []
        self._all = asyncio.Event()

    async def go(self) -> dict[str, float]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {**os.environ, "MEDIA_ENV_FILE": "", "MEDIA_REDIS_URL": self._worker.place.redis_url}
        env |= {"MEDIA_HTTP_BIND": f"127.0.0.1:{port}", **self._worker.stores()}
        command = [str(Path(sys.executable).parent / "media"), "serve"]
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)  # noqa: S603, ASYNC220
        try:
            await self._answers(port)
            readers = [asyncio.create_task(self._read(port)) for _ in range(self._streams)]
            await asyncio.sleep(1)
            before = cpu_ms(process.pid)
            await self._upload()
            async with asyncio.timeout(60):
                await self._all.wait()
            found = {
                "streams": self._streams,
                "messages": len(self._ms),
                **{f"p{percent}_ms": round(percentile(self._ms, percent), 1) for percent in (50, 95, 99)},
                "most_ms": round(max(self._ms), 1),
                "serve_cpu_ms_per_message": round((cpu_ms(process.pid) - before) / self._uploads, 1),
                "serve_mb": round(memory([process.pid]) / 1e6, 1),
            }
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        finally:
            process.terminate()
            process.wait(10)
        return found

    async def _answers(self, port: int) -> None:
        until = time.monotonic() + _ANSWERS_S
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if b" 200 " in await reader.readline():
                    return
            except OSError:
                pass
            await asyncio.sleep(0.1)
        raise BenchError("the server did not answer")

    async def _read(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while line := await reader.readline():
            if line.startswith(b"data:") and (committed := _TIME.search(line)):
                moment = datetime.fromisoformat(committed[1].decode())
                self._ms.append((time.time() - moment.timestamp()) * 1000)
                if len(self._ms) == self._streams * self._uploads:
                    self._all.set()

    async def _upload(self) -> None:
        for number in range(self._uploads):
            file = self._worker.place.uploads / f"{number}.jpg"
            file.write_bytes(Path(self._files[number % len(self._files)]).read_bytes())
            self._worker.put([file])
            await asyncio.sleep(1 / self._per_second)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except BenchError as error:
        say(str(error))
        raise SystemExit(1) from error
