"""`media serve` at a place where a worker works, with a key that may do all."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import BenchError, MediaWorker
from bench.http_client import Client
from bench.processes import pinned
from scripts.processes import free_port, launch, stop
from storage.catalog.opening import open_catalog
from worker.http.keys import new_key
from worker.http.scopes import SCOPES

_ANSWERS_S = 20.0


@dataclass(frozen=True)
class Served:
    """A server that answers, and whoever asks it."""

    pid: int
    client: Client
    worker: MediaWorker


@contextmanager
def served(worker: MediaWorker, cores: Collection[int]) -> Iterator[Served]:
    """A server beside that worker, on those cores. Raises: BenchError."""
    home, url = worker.place.home, f"http://127.0.0.1:{free_port()}"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MEDIA_ENV_FILE": "",
        "MEDIA_LOG": "json",
        "MEDIA_REDIS_URL": worker.place.redis_url,
        "MEDIA_HTTP_BIND": url.removeprefix("http://"),
        **worker.stores(),
    }
    key = asyncio.run(_new_key(worker.stores()["MEDIA_CATALOG_URL"]))
    with (home / "serve.log").open("wb") as log, pinned(cores):
        command = [str(Path(sys.executable).parent / "media"), "serve"]
        process = launch(command, log, env)
    try:
        client = Client(url, key)
        _await_ready(process, client, home / "serve.log")
        yield Served(process.pid, client, worker)
    finally:
        stop(process)


async def _new_key(catalog_url: str) -> str:
    secret, key = new_key("bench", SCOPES, None, None, int(time.time() * 1000))
    async with open_catalog(catalog_url, create=False) as catalog:
        await catalog.http_keys.add(key)
    return secret


def _await_ready(process: subprocess.Popen[bytes], client: Client, log: Path) -> None:
    until = time.monotonic() + _ANSWERS_S
    while True:
        try:
            if asyncio.run(client.ask(client.request("/readyz"))).status == 200:
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            raise BenchError(f"the server did not answer:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
