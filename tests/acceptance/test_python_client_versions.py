"""The Python client with the redis-py that apps have, and alone: as a wheel, without the worker."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts import readme
from tests.support import pictures
from tests.support.clients import WITH_SERVICES, find_python, redis_py
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
import importlib.metadata, importlib.resources, importlib.util, json
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


def built(kind: str, source: Path, target: Path) -> Path:
    """The package of that kind which is built of the files in `source`."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    [package] = target.glob("media_worker_client-*")
    return package


@pytest.mark.parametrize("version", ["this", "3.9"])
@pytest.mark.rotating(1)
@WITH_SERVICES
def test_the_client_is_built_of_its_sdist_and_works_where_nothing_else_is(
    tmp_path: Path, version: str
) -> None:
    python = sys._base_executable if version == "this" else find_python(version)  # type: ignore[attr-defined]
    redis = redis_py("8.1.0") if version == "this" else redis_py("7.0.1", python)  # the newest for 3.9
    sdist = built("sdist", CLIENT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    wheel = built("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{site}:{redis}"}
    command = [python, "-S", "-W", "error", "-c", ALONE]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("version") == sdist.name.removesuffix(".tar.gz").split("-")[1] == wheel.name.split("-")[1]
    assert told == {"requires": ["redis<9,>=5"], "typed": True, "variants": 3, "worker": []}


def test_the_readme_has_no_links_that_only_work_in_the_repository() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (CLIENT / "README.md").read_text("utf-8"))

    assert [link for link in links if not link.startswith(("https://", "#"))] == []
