"""The Python client with the redis-py that apps have, and alone: as a wheel, without the worker."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts import readme
from tests.support import pictures
from tests.support.clients import WITH_SERVICES, redis_py
from tests.support.workplace import Workplace

CLIENT = readme.README.parent / "clients/python"
VERSIONS = [
    "5.0.0",
    "8.1.0",
    *(pytest.param(v, marks=pytest.mark.campaign) for v in ("5.3.1", "6.4.0", "7.4.1", "8.0.1")),
]
EVERYTHING = """
import asyncio, json, sys, threading
import redis, redis.asyncio
from media_worker_client import AsyncMediaClient, MediaClient, MemoryCursor
from media_worker_client.connections import block_s

url, source, wire = sys.argv[1:]
name = f"app-{redis.__version__}-{wire}"
told = {}

def until(key, handler=None):
    stop = threading.Event()
    def handle(message):
        if message.source == source and message.type == "upload.ready":
            told[key] = [variant.name for variant in message.variants]
            stop.set()
    return dict(handler=handle, stop=stop)

def sync(**options):
    client = redis.Redis.from_url(url, protocol=int(wire), **options)
    media = MediaClient(client)
    media.announce(source)
    media.listen(**until("group"), group=name + "-sync", claim_after=1)
    media.listen(**until("cursor"), cursor=MemoryCursor())
    for line in client.xinfo_groups("media:events"):
        told.setdefault("pending", []).append(line["pending"])

async def all_again():
    client = redis.asyncio.Redis.from_url(url, protocol=int(wire), decode_responses=True)
    media = AsyncMediaClient(client)
    await media.announce(source)
    await media.listen(**until("async group"), group=name + "-async", claim_after=1)
    await media.listen(**until("async cursor"), cursor=MemoryCursor())
    await client.connection_pool.disconnect()

sync(decode_responses=wire == "3")
asyncio.run(all_again())
MediaClient(url).close()
# Since redis-py 8 a reply has 5 s by default: a read that blocks must be back before.
blocks = [block_s(kind.from_url(url), may_stop=False) for kind in (redis.Redis, redis.asyncio.Redis)]
assert blocks == [2.5 if redis.__version__ >= "8" else 5.0] * 2, blocks
print(json.dumps(told))
"""


@pytest.mark.parametrize("version", VERSIONS)
@WITH_SERVICES
def test_an_app_uses_any_redis_py_with_either_protocol(live: Workplace, version: str) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{redis_py(version)}:{CLIENT}"}
    source = live.put("uploads/cat.jpg", pictures.medium())
    all_variants = ["thumb", "medium", "large"]

    for protocol in ("2", "3"):
        command = [
            sys.executable,
            "-W",
            "error::RuntimeWarning",
            "-c",
            EVERYTHING,
            live.redis_url,
            source,
            protocol,
        ]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        assert set(told.pop("pending")) == {0}
        kinds = ("group", "cursor", "async group", "async cursor")
        assert told == dict.fromkeys(kinds, all_variants)


ALONE = """
import importlib.metadata, importlib.util, json
import media_worker_client
from media_worker_client.fake import FakeMedia

fake = FakeMedia()
fake.announce("uploads/cat.jpg")
[message] = fake.deliver()
print(json.dumps({
    "version": importlib.metadata.version("media-worker-client"),
    "requires": importlib.metadata.requires("media-worker-client"),
    "typed": (importlib.resources.files(media_worker_client) / "py.typed").is_file(),
    "variants": len(message.variants),
    "worker": [name for name in ("worker", "storage", "arq", "pydantic") if importlib.util.find_spec(name)],
}))
"""


@WITH_SERVICES
def test_the_client_is_built_as_a_wheel_and_works_where_nothing_else_is(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(build, cwd=CLIENT, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("media_worker_client-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{site}:{redis_py('8.1.0')}"}
    python = [sys._base_executable, "-S", "-c", ALONE]  # type: ignore[attr-defined]
    done = subprocess.run(python, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("version") == wheel.name.split("-")[1]
    assert told == {"requires": ["redis<9,>=5"], "typed": True, "variants": 3, "worker": []}
