"""What requests cost the HTTP server, by what others cost in the same run: machines differ, and are busy."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.http import noise, requests_for_lists, requests_for_status, upload_at_once
from bench.http_client import Client
from bench.processes import Peak, cpu_ms, memory
from scripts.redis_server import RedisServer
from tests.support import large_catalog
from tests.support.clients import WITH_SERVICES
from tests.support.face import FaceProcess, new_secret, start_face
from tests.support.rotation import of_day, today
from tests.support.served import catalog_url, installed

pytestmark = WITH_SERVICES

UPLOADS = 20_000
LARGE = 10_000_000
MOST_OF_A_STATUS = 8.0  # times what an empty request takes
MOST_OF_A_LIST = 100.0  # the same; all uploads looked through would be twice as much
MOST_MB = 130
MOST_KB = 60  # for a connection
TRIES = 3
AT_ONCE, HELD = 20, 300
A_DAY = 3  # of the lists


@dataclass(frozen=True)
class LoadedFace:
    """A server on a catalog of some size."""

    face: FaceProcess
    client: Client
    catalog: Path

    async def cost(self, requests: Sequence[bytes], total: int) -> float:
        """CPU of the server for a request, in ms: the kernel counts it in hundredths of a second."""
        (await self.client.load(requests, 50, 4)).check()
        before = cpu_ms(self.face.pid)
        (await self.client.load(requests, total, 4)).check()
        return (cpu_ms(self.face.pid) - before) / total

    async def times_an_empty_one(self, requests: Sequence[bytes], total: int, most: float) -> float:
        """What a request costs, by an empty one of the same moment; the least of some tries, until `most`.

        Who else works on a core makes the same work dearer, by up to twice as much.
        """
        least = math.inf
        for _ in range(TRIES):
            empty = await self.cost([self.client.request("/healthz")], 500)
            least = min(least, await self.cost(requests, total) / empty)
            if least < most:
                break
        return least


@pytest.fixture(scope="module")
def loaded(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoadedFace]:
    place = installed(tmp_path_factory.mktemp("loaded"), redis_server.url, migrated)
    large_catalog.fill(place.catalog, UPLOADS, seed=14)
    secret = asyncio.run(new_secret(catalog_url(place)))
    face = start_face(place)
    yield LoadedFace(face, Client(face.url, secret), place.catalog)
    place.close()


async def test_a_status_costs_little_more_than_an_empty_request(loaded: LoadedFace) -> None:
    requests = requests_for_status(loaded.client, loaded.catalog)
    times = await loaded.times_an_empty_one(requests, 1000, MOST_OF_A_STATUS)

    print(f"a status: {times:.1f} times an empty request")  # noqa: T201
    assert times < MOST_OF_A_STATUS


async def test_no_list_looks_through_all_uploads_of_a_large_catalog(loaded: LoadedFace) -> None:
    lists = await requests_for_lists(loaded.client)
    costs = {
        what: await loaded.times_an_empty_one(lists[what], 60, MOST_OF_A_LIST)
        for what in of_day(list(lists), A_DAY, today())
    }

    print({what: round(times, 1) for what, times in costs.items()})  # noqa: T201
    assert max(costs.values()) < MOST_OF_A_LIST


async def test_twenty_large_uploads_at_once_take_little_memory(loaded: LoadedFace) -> None:
    picture = noise(LARGE)
    (await upload_at_once(loaded.client, picture, 1)).check(201)
    with Peak(loaded.face.pid, 0.02).watched() as peak:
        (await upload_at_once(loaded.client, picture, AT_ONCE)).check(201)

    assert peak.bytes / 1e6 < MOST_MB


async def test_connections_that_are_held_take_little_memory_and_are_answered(loaded: LoadedFace) -> None:
    head = loaded.client.request("/healthz")
    before = memory([loaded.face.pid])
    async with loaded.client.connections(HELD) as opened:
        for connection in opened:
            await connection.ask(head)
        after = memory([loaded.face.pid])
        answers = await asyncio.gather(*(connection.ask(head) for connection in opened))

    assert {answer.status for answer in answers} == {200}
    assert (after - before) / HELD < MOST_KB * 1000
