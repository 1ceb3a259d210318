"""A sweep lays a million objects beside a million rows: in bounded memory, a thousand objects a request."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
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
from scripts.s3_server import S3Server
from storage.catalog.opening import open_catalog
from tests.support.large_bucket import PAGE, large_bucket
from tests.support.postgres import connect, create_database
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import BIN, database_on

FEW, MILLION = 9_999, 999_999  # three of each upload
FOUND = {"orphan": 1, "missing": 1}
ORPHAN = "variants/ab/cd/abcd0000-0000-4000-8000-000000000000.jpg"
MOST_TIMES = 1.25
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


def swept(place: S3Workplace, keys: Sequence[str]) -> LargeSweep:
    """Plan where all rows but one have their objects, and one object has no row."""
    assert place.run("media", "--burst").returncode == 0
    obstore.put(place.store, ORPHAN, b"nobody's")
    prefix = place.place.prefix
    shown = sorted([f"{prefix}/{ORPHAN}", *(f"{prefix}/{key}" for key in keys[1:])])
    with large_bucket(place.place.endpoint, f"{prefix}/variants", shown) as bucket:
        began = time.monotonic()
        command = [str(BIN / "media"), "sweep", "--json"]
        env = place.env(MEDIA_S3_ENDPOINT=bucket.endpoint)
        with (
            subprocess.Popen(command, env=env, cwd=place.home, stdout=subprocess.PIPE, text=True) as sweep,
            Peak(sweep.pid).watched() as peak,
        ):
            said, _ = sweep.communicate()
        took = time.monotonic() - began
        assert sweep.returncode == 0
        return LargeSweep(json.loads(said), bucket.listings, len(bucket.requests), peak.bytes, took)


async def _filled(server: PostgresServer, url: str, uploads: int) -> Sequence[str]:
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
    redis_server: RedisServer, postgres_server: PostgresServer, seaweedfs: S3Server, tmp_path: Path
) -> None:
    found = {}
    for rows in (FEW, MILLION):
        url = create_database(postgres_server, f"rows_{rows}")
        keys = asyncio.run(_filled(postgres_server, url, rows // 3))
        where, home = database_on(redis_server.url), tmp_path / str(rows)
        home.mkdir()
        place = S3Workplace(home, where, seaweedfs, MEDIA_GRACE="0", MEDIA_CATALOG_URL=url)
        with closing(place):
            found[rows] = swept(place, keys)
        sys.stdout.write(f"{rows} objects: {found[rows]}\n")

    for rows, one in found.items():
        assert (one.plan["files"], one.plan["rows"]) == (rows, rows)
        assert {kind: each["count"] for kind, each in one.plan["findings"].items() if each["count"]} == FOUND
        assert one.listings <= rows / PAGE + 2 * rows / _STRETCH + _BESIDE
        assert one.requests <= one.listings + 2 * rows / _STRETCH + _BESIDE
    assert found[MILLION].peak < MOST_TIMES * found[FEW].peak
