"""A real Prometheus scrapes a live worker: panels have data, and the right alert fires for each outage."""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scripts.dashboards import PAGES, Graph
from scripts.processes import free_port
from scripts.readme import METRICS
from scripts.redis_server import RedisServer, temporary_redis
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import media
from tests.support.disks import fill, small_disk
from tests.support.exposed import families
from tests.support.prometheus import PrometheusServer, prometheus
from tests.support.receiver import HookReceiver
from tests.support.scraping import Scraped
from tests.support.stub_decoder import CRASH
from tests.support.sweeps import new_key
from tests.support.workplace import WorkerProcess, Workplace, database_on, eventually

pytestmark = WITH_SERVICES

MIXED = "media-worker"
_PATIENCE_S = 60  # a worker looks every 5 seconds, at a sweep every 15; Prometheus every second
QUESTIONS = re.findall(r"^\| .* \| `(.*)` \|$", METRICS.read_text("utf-8"), re.MULTILINE)
GRAPHS = [graph for _, rows in PAGES.values() for graphs in rows.values() for graph in graphs]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    with prometheus(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


@pytest.fixture(scope="module")
def mixed(
    server: PrometheusServer,
    redis_server: RedisServer,
    migrated: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scraped]:
    """A worker that has had good, bad and deadly pictures, after a sweep; scraped as `MIXED`."""
    place = Workplace(tmp_path_factory.mktemp("mixed"), database_on(redis_server.url), migrated)
    place.send({"source": place.put("uploads/first.jpg", pictures.small())})
    assert place.run("media", "--burst").returncode == 0
    assert media(place.env(), "sweep").returncode == 0
    port = free_port()
    nobody = HookReceiver(f"http://127.0.0.1:{free_port()}/hooks")  # which a series is about
    place.settings |= nobody.settings
    place.start("stub", MEDIA_METRICS=f"127.0.0.1:{port}")
    server.scrape({MIXED: port})
    eventually(partial(has_data, server, f'media_build_info{{job="{MIXED}"}}'))
    contents = [pictures.small(1), pictures.small(2), b"%PDF-1.7", pictures.small(3) + CRASH]
    sources = [place.put(f"uploads/{n}", content) for n, content in enumerate(contents)]
    place.send_all({"source": source} for source in sources)
    place.await_end_of(*sources)
    yield Scraped(port)
    place.close()


def has_data(server: PrometheusServer, query: str) -> bool:
    """Whether a query gives at least one series."""
    return bool(server.query(query))


def of(server: PrometheusServer, job: str) -> set[str]:
    """The alerts of one job that fire."""
    return {name for name, about in server.firing() if about == job}


def test_prometheus_has_every_series_that_a_worker_serves(server: PrometheusServer, mixed: Scraped) -> None:
    served = {sample.name for family in families(mixed.exposition).values() for sample in family.samples}

    eventually(lambda: served <= server.names(MIXED))


def test_what_prometheus_counts_is_what_became_of_the_uploads(
    server: PrometheusServer, mixed: Scraped
) -> None:
    ended = f'sum by (outcome) (media_uploads_total{{job="{MIXED}", outcome=~"ready|failed"}})'

    def counted() -> dict[str, str]:
        return {found["metric"]["outcome"]: found["value"][1] for found in server.query(ended)}

    eventually(lambda: counted() == {"ready": "2", "failed": "2"})


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.title)
def test_every_panel_has_data(server: PrometheusServer, mixed: Scraped, graph: Graph) -> None:
    for query in graph.queries.values():
        asked = query.replace("$job", MIXED).replace("$__rate_interval", "1m").replace("[6h]", "[1m]")
        eventually(partial(has_data, server, asked))


@pytest.mark.parametrize("query", QUESTIONS)
def test_every_query_of_the_page_of_metrics_has_data(
    server: PrometheusServer, mixed: Scraped, query: str
) -> None:
    eventually(partial(has_data, server, query.replace("[7d]", "[1m]")))


def test_no_rule_is_in_error(server: PrometheusServer, mixed: Scraped) -> None:
    eventually(lambda: all(rule["health"] == "ok" for rule in server.rules()))

    assert len(server.rules()) > 10


def test_nobody_is_woken_while_bad_pictures_come(server: PrometheusServer, mixed: Scraped) -> None:
    assert of(server, MIXED) == set()


def _alone(server: PrometheusServer, job: str, place: Workplace) -> WorkerProcess:
    """Start a worker there, and scrape it as that job, and no other."""
    port = free_port()
    worker = place.start(MEDIA_METRICS=f"127.0.0.1:{port}")
    server.scrape({job: port})
    eventually(partial(has_data, server, f'media_build_info{{job="{job}"}}'))
    return worker


def test_a_redis_that_stops_is_an_ill_worker(
    server: PrometheusServer, migrated: Path, tmp_path: Path
) -> None:
    with temporary_redis() as stopping:
        place = Workplace(tmp_path, stopping.url, migrated)
        _alone(server, "redis-media-worker", place)
        assert of(server, "redis-media-worker") == set()
    eventually(lambda: of(server, "redis-media-worker") == {"MediaUnhealthy"}, _PATIENCE_S)

    [ill] = server.query('media_health{job="redis-media-worker"} == 0')
    place.close()
    assert ill["metric"]["check"] == "redis"


def test_a_disk_that_fills_is_told_of_before_it_is_full(
    server: PrometheusServer, redis_server: RedisServer, migrated: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", mib=8) as disk:
        place = Workplace(tmp_path, database_on(redis_server.url), migrated)
        place.use_root(disk / "media")
        fill(disk / "filler")
        os.truncate(disk / "filler", (disk / "filler").stat().st_size - 1024 * 1024)
        _alone(server, "disk-media-worker", place)
        eventually(lambda: of(server, "disk-media-worker") == {"MediaStorageFull"}, _PATIENCE_S)
        place.close()


def test_a_sweep_that_the_breaker_stops_is_an_alert_of_its_own(
    server: PrometheusServer, workplace: Workplace
) -> None:
    assert workplace.run("media", "--burst").returncode == 0
    nobodys = workplace.root / new_key()
    nobodys.parent.mkdir(parents=True)
    nobodys.write_bytes(b"x")
    assert media(workplace.env(MEDIA_GRACE="0"), "sweep").returncode == 1
    _alone(server, "sweep-media-worker", workplace)

    eventually(lambda: of(server, "sweep-media-worker") == {"MediaSweepStopped"}, _PATIENCE_S)


def test_a_worker_that_is_killed_is_absent(server: PrometheusServer, workplace: Workplace) -> None:
    worker = _alone(server, "killed-media-worker", workplace)
    eventually(lambda: "MediaWorkersAbsent" not in of(server, "killed-media-worker"))
    worker.kill()

    eventually(lambda: "MediaWorkersAbsent" in of(server, "killed-media-worker"), _PATIENCE_S)
