"""`media serve` at work imports nothing that the image leaves out of its packages."""

import asyncio
import json
import os
import runpy
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from scripts.processes import LAUNCHER
from scripts.redis_server import RedisServer
from tests.support.clients import ROOT, WITH_SERVICES
from tests.support.event_source import EventSource
from tests.support.face import SECRET, FaceProcess, new_secret
from tests.support.pictures import small
from tests.support.ports import free_port
from tests.support.workplace import Workplace, database_on

pytestmark = WITH_SERVICES

PACKAGES = Path(sysconfig.get_path("purelib"))
_TELLING = """
import atexit, pathlib, sys
def tell():
    files = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
    pathlib.Path("imported").write_text("\\n".join(files))
atexit.register(tell)
sys.argv = ["media", "serve"]
import media_worker
media_worker.main()
"""


@pytest.fixture
def place(redis_server: RedisServer, migrated: Path, tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(tmp_path, database_on(redis_server.url), migrated)
    place.start()
    yield place
    place.close()


@pytest.fixture
def face(place: Workplace) -> FaceProcess:
    """A server that writes the files of its modules when it ends."""
    address = f"127.0.0.1:{free_port()}"
    env = place.env(MEDIA_HTTP_BIND=address, MEDIA_HTTP_SECRET=SECRET, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), sys.executable, "-c", _TELLING]
    process = subprocess.Popen(command, env=env, cwd=place.home, stderr=subprocess.PIPE)
    face = FaceProcess(process, f"http://{address}")
    place.workers.append(face)
    face.await_log("http_ready")
    return face


async def test_who_uploads_and_listens_needs_nothing_that_the_image_leaves_out(
    place: Workplace, face: FaceProcess
) -> None:
    secret = await new_secret(f"sqlite+aiosqlite:///{place.catalog}")
    headers = {"Authorization": f"Bearer {secret}"}
    sockets = f"{face.url.replace('http:', 'ws:')}/v1/events/ws"
    async with (
        asyncio.timeout(30),
        httpx.AsyncClient(base_url=face.url, headers=headers, timeout=30) as client,
        client.stream("GET", "/v1/events") as stream,
        connect(sockets, additional_headers=headers) as websocket,
    ):
        upload = await client.post("/v1/uploads", content=small(), headers={"Content-Type": "image/jpeg"})
        event = await EventSource(stream).next()
        [message] = json.loads(await websocket.recv())
    face.stop()

    unused = _unused()
    imported = [Path(file) for file in (place.home / "imported").read_text().splitlines()]
    assert (upload.is_success, event.type, message["type"]) == (True, "upload.ready", "upload.ready")
    assert PACKAGES / "websockets/__init__.py" in imported
    assert [file for file in imported if unused.intersection([file, *file.parents])] == []


def test_no_library_that_stays_needs_one_that_goes() -> None:
    unused = _unused()
    libraries = [path for folder in ("PIL", "pillow.libs") for path in (PACKAGES / folder).glob("*.so*")]
    stay = [path for path in libraries if path not in unused]

    listed = subprocess.run(["ldd", *stay], capture_output=True, text=True, check=True).stdout
    needed = {Path(line.split()[2]).resolve() for line in listed.splitlines() if "=> /" in line}
    assert len([path for path in needed if path.parent.name == "pillow.libs"]) > 10
    assert needed & unused == set()


def _unused() -> set[Path]:
    """What the image leaves out of the packages that are here."""
    return set(runpy.run_path(str(ROOT / "deploy/image/prune.py"))["unused"](PACKAGES))
