"""Fair turns: whatever one owner has sent, a small picture of another one is ready within a moment."""

import struct
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from statistics import median
from uuid import UUID, uuid4, uuid5

import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from tests.support import pictures
from tests.support.catalog_rows import rows_of
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import Workplace, database_on, eventually
from tests.support.worst_cases import WORST

pytestmark = WITH_SERVICES

_NEIGHBOURS = 7
_FLOOD = UUID("11111111-2222-3333-4444-555555555555")


def bad_tiff(number: int) -> bytes:
    """A header, and the begin of a directory: each of other bytes."""
    return struct.pack("<2sHIHIIB", b"II", 42, 8, 1, number, number, 0)[:19]


def flood(place: Workplace, contents: Iterable[bytes], times: int = 1) -> None:
    """One owner sends pictures, each so many times under other ids, and does not wait for any."""
    sources = [place.put(f"uploads/greedy/{n}", content) for n, content in enumerate(contents)]
    ids = [uuid5(_FLOOD, f"{source}/{n}") for source in sources for n in range(times)]
    place.send_all(
        {"source": source, "id": str(each)} for source, each in zip(sources * times, sorted(ids), strict=True)
    )


def seconds_of_a_neighbour(place: Workplace) -> float:
    """How long a small picture of another owner takes from its event to its message."""
    source = place.put(f"uploads/mia/{uuid4()}.jpg", pictures.small())
    began = time.monotonic()
    place.send({"source": source})
    assert place.await_end_of(source)[source]["type"] == "upload.ready"
    return time.monotonic() - began


def median_of_a_neighbour(place: Workplace) -> float:
    waits = [seconds_of_a_neighbour(place) for _ in range(_NEIGHBOURS)]
    print(f"a neighbour waited {', '.join(f'{each:.2f}' for each in waits)} s")  # noqa: T201
    return median(waits)


def test_behind_a_thousand_uploads_of_one_owner_anothers_is_ready_within_a_second(
    workplace: Workplace,
) -> None:
    worker = workplace.start()
    flood(workplace, [pictures.medium(n) for n in range(10)], times=100)

    assert median_of_a_neighbour(workplace) < 1
    assert sum(answer["source"].startswith("uploads/greedy/") for answer in workplace.messages) < 900
    worker.stop()


def test_what_a_killed_worker_has_parked_is_done_by_another_one_to_the_last(workplace: Workplace) -> None:
    first = workplace.start()
    flood(workplace, [pictures.small(n) for n in range(10)], times=20)
    eventually(lambda: workplace.redis.xlen("media:uploads") == 0)
    first.kill()
    parked = rows_of(workplace.catalog, "SELECT id FROM uploads WHERE job_id = '' AND state = 'queued'")
    assert len(parked) > 50

    assert workplace.run("media", "--burst").returncode == 0
    states = rows_of(workplace.catalog, "SELECT state, count(*) AS count FROM uploads GROUP BY state")
    assert [(row["state"], row["count"]) for row in states] == [("ready", 200)]


def test_behind_failures_of_one_owner_that_are_retried_anothers_is_ready_within_a_second(
    workplace: Workplace,
) -> None:
    worker = workplace.start()
    flood(workplace, map(bad_tiff, range(20)), times=15)
    failed = {"state": "failed", "count": 300}
    count = "SELECT state, count(*) AS count FROM uploads GROUP BY state"
    eventually(lambda: rows_of(workplace.catalog, count) == [failed])
    for n in range(20):
        workplace.put(f"uploads/greedy/{n}", pictures.medium(n))
    queued = document(media(workplace.env(), "failed", "retry", "--all", "--json"))["uploads"]

    assert len(queued) == 300
    assert median_of_a_neighbour(workplace) < 1
    states = {row["state"]: row["count"] for row in rows_of(workplace.catalog, count)}
    assert states["queued"] > 100
    ready = "SELECT count(*) AS count FROM uploads WHERE state = 'ready'"
    eventually(lambda: rows_of(workplace.catalog, ready)[0]["count"] > _NEIGHBOURS)
    worker.stop()


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("contents", "times"),
    [
        pytest.param(lambda: map(bad_tiff, range(100)), 1, id="100 TIFFs of 19 bytes"),
        pytest.param(lambda: (WORST["photo.heic"](20_000_000 + n) for n in range(12)), 1, id="12 HEICs"),
        pytest.param(lambda: map(pictures.medium, range(10)), 1000, id="10,000 honest ones"),
    ],
)
def test_behind_whatever_one_owner_sends_anothers_is_ready_within_a_second(
    workplace: Workplace, contents: Callable[[], Iterable[bytes]], times: int
) -> None:
    workplace.start()
    flood(workplace, contents(), times)

    assert median_of_a_neighbour(workplace) < 1


@pytest.mark.campaign
def test_it_is_so_with_two_workers_on_postgres_and_a_bucket(
    redis_server: RedisServer, seaweedfs: S3Server, postgres_catalog_url: str, tmp_path: Path
) -> None:
    place = S3Workplace(tmp_path, database_on(redis_server.url), seaweedfs)
    with closing(place):
        place.settings["MEDIA_CATALOG_URL"] = postgres_catalog_url
        for _ in range(2):
            place.start()
        flood(place, [pictures.medium(n) for n in range(10)], times=1000)

        assert median_of_a_neighbour(place) < 1
