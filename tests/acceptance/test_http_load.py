"""What requests cost the HTTP server, by what others cost in the same run: machines differ, and are busy."""

import asyncio
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
from tests.support.served import catalog_url, installed

pytestmark = WITH_SERVICES

UPLOADS = 20_000
LARGE = 10_000_000
MOST_OF_A_STATUS = 8.0  # times what an empty request takes
MOST_OF_A_LIST = 100.0  # the same; all uploads looked through would be twice as much
MOST_MB = 130
MOST_KB = 60  # for a connection
AT_ONCE, HELD = 20, 300


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
    empty = await loaded.cost([loaded.client.request("/healthz")], 1500)
    status = await loaded.cost(requests_for_status(loaded.client, loaded.catalog), 1500)

    print(f"an empty request {empty:.3f} ms, a status {status:.3f} ms: {status / empty:.1f} times")  # noqa: T201
    assert status < MOST_OF_A_STATUS * empty


async def test_no_list_looks_through_all_uploads_of_a_large_catalog(loaded: LoadedFace) -> None:
    empty = await loaded.cost([loaded.client.request("/healthz")], 1500)
    lists = await requests_for_lists(loaded.client)
    costs = {what: await loaded.cost(requests, 60) / empty for what, requests in lists.items()}

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
