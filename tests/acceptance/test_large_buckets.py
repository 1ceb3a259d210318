"""A sweep lays a million objects beside a million rows: in bounded memory, a thousand objects a request."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pytest

from bench.filling import fill_postgres
from bench.processes import Peak
from scripts.postgres_server import PostgresServer
from scripts.redis_server import RedisServer
from scripts.s3_server import S3NotFoundError, S3Server
from storage.catalog.opening import open_catalog
from tests.support.clients import missing
from tests.support.large_bucket import add_objects, large_seaweedfs
from tests.support.postgres import connect, create_database
from tests.support.s3_proxy import s3_proxy
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import BIN, database_on

FEW, MILLION = 9_999, 999_999  # three of each upload
FOUND = {"orphan": 1, "missing": 1}
ORPHAN = "variants/ab/cd/abcd0000-0000-4000-8000-000000000000.jpg"
MOST_TIMES = 1.25
PAGE = 1000  # the most that S3 lists in one answer
_STRETCH = 20_000  # objects that are compared in one step, which looks at the marker before
_BESIDE = 30  # requests that do not depend on the number of objects


@dataclass(frozen=True)
class LargeSweep:
    """What a sweep that plans found, what it asked of the bucket, and what it took."""

    plan: Any
    listings: int
    requests: int
    peak: int
    seconds: float


@pytest.fixture
def large(postgres_server: PostgresServer) -> Iterator[S3Server]:
    try:
        with large_seaweedfs(postgres_server) as server:
            yield server
    except S3NotFoundError as error:
        missing(str(error))


def swept(place: S3Workplace) -> LargeSweep:
    """Plan; each request goes through a proxy, which counts it."""
    with s3_proxy(place.place.endpoint) as proxy:
        began = time.monotonic()
        command = [str(BIN / "media"), "sweep", "--json"]
        env = place.env(MEDIA_S3_ENDPOINT=proxy.endpoint)
        with (
            subprocess.Popen(command, env=env, cwd=place.home, stdout=subprocess.PIPE, text=True) as sweep,
            Peak(sweep.pid).watched() as peak,
        ):
            said, _ = sweep.communicate()
        took = time.monotonic() - began
        assert sweep.returncode == 0
        listings = sum("list-type=2" in path for _, path in proxy.requests)
        return LargeSweep(json.loads(said), listings, len(proxy.requests), peak.bytes, took)


async def filled(server: PostgresServer, url: str, uploads: int) -> Sequence[str]:
    """The keys of the variants of that many uploads, of which the catalog now has rows."""
    async with open_catalog(url):
        pass  # makes it
    await fill_postgres(url, uploads)
    connection = await connect(server, url.rpartition("/")[2])
    try:
        return [row["key"] for row in await connection.fetch("SELECT key FROM variants ORDER BY key")]
    finally:
        await connection.close()


@pytest.mark.campaign
def test_a_sweep_of_a_million_objects_has_a_request_for_a_thousand_and_no_more_memory(
    redis_server: RedisServer, postgres_server: PostgresServer, large: S3Server, tmp_path: Path
) -> None:
    found = {}
    for rows in (FEW, MILLION):
        url = create_database(postgres_server, f"rows_{rows}")
        where, home = database_on(redis_server.url), tmp_path / str(rows)
        home.mkdir()
        with closing(S3Workplace(home, where, large, MEDIA_GRACE="0", MEDIA_CATALOG_URL=url)) as place:
            _, *keys = asyncio.run(filled(postgres_server, url, rows // 3))  # the first has no object
            assert place.run("media", "--burst").returncode == 0
            asyncio.run(add_objects(postgres_server, place.store, place.place, keys))
            obstore.put(place.store, ORPHAN, b"nobody's")
            found[rows] = swept(place)
        sys.stdout.write(f"{rows} objects: {found[rows]}\n")

    for rows, one in found.items():
        assert (one.plan["files"], one.plan["rows"]) == (rows, rows)
        assert {kind: each["count"] for kind, each in one.plan["findings"].items() if each["count"]} == FOUND
        assert one.listings <= rows / PAGE + 2 * rows / _STRETCH + _BESIDE
        assert one.requests <= one.listings + 2 * rows / _STRETCH + _BESIDE
    assert found[MILLION].peak < MOST_TIMES * found[FEW].peak
