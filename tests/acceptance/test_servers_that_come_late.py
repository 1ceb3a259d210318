"""A worker that starts before its servers: it waits for them, red by name, and goes on when they are up."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from tests.support import pictures
from tests.support.s3_workplace import S3Workplace
from tests.support.tcp_proxy import TcpProxy
from tests.support.workplace import Workplace, database_on

pytestmark = pytest.mark.rotating(2, of="module")


@pytest.fixture
def on_s3(
    redis_server: RedisServer, seaweedfs: S3Server, migrated: Path, tmp_path: Path
) -> Iterator[S3Workplace]:
    place = S3Workplace(tmp_path, database_on(redis_server.url), seaweedfs, migrated)
    yield place
    place.close()


def goes_on(place: Workplace, proxy: TcpProxy, by: str, reason: str) -> None:
    """Check that a worker waits, red for that reason, while the server does not answer; then works."""
    source = place.put("uploads/a.jpg", pictures.small())
    place.send({"source": source})
    proxy.refuse()
    worker = place.start(by, ready=False)
    red = worker.await_log("unhealthy")
    checked = place.run("arq", "--check")
    proxy.accept()
    [answer] = place.await_end_of(source).values()

    assert reason in red["reason"]
    assert reason in checked.stderr
    assert checked.returncode == 1
    assert answer["type"] == "upload.ready"
    assert worker.stop() == 0


@pytest.mark.parametrize("by", ["arq", "media"])
def test_a_postgres_that_comes_late_is_waited_for(
    workplace: Workplace, postgres_catalog_url: str, by: str
) -> None:
    url = make_url(postgres_catalog_url)
    with closing(TcpProxy(url.port or 0)) as proxy:
        behind = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        workplace.settings["MEDIA_CATALOG_URL"] = behind
        goes_on(
            workplace,
            proxy,
            by,
            f"nobody listens where the catalog postgresql://media@127.0.0.1:{proxy.port}",
        )


def test_a_bucket_whose_server_comes_late_is_waited_for(on_s3: S3Workplace) -> None:
    port = int(on_s3.place.endpoint.rpartition(":")[2])
    with closing(TcpProxy(port)) as proxy:
        at = f"http://127.0.0.1:{proxy.port}"
        on_s3.settings["MEDIA_S3_ENDPOINT"] = at
        on_s3.settings["MEDIA_STORAGE_URL"] = str(on_s3.place)
        goes_on(on_s3, proxy, "media", f"nobody listens at {at}")


def test_a_worker_that_waits_stops_at_once_and_leaves_no_heartbeat(workplace: Workplace) -> None:
    workplace.settings["MEDIA_CATALOG_URL"] = "postgresql+asyncpg://media:x@127.0.0.1:1/media"
    worker = workplace.start("media", ready=False)
    worker.await_log("unhealthy")

    assert worker.stop() == 0
    assert workplace.redis.keys("*:health:*") == []


def test_a_burst_waits_for_no_server(workplace: Workplace) -> None:
    workplace.settings["MEDIA_CATALOG_URL"] = "postgresql+asyncpg://media:x@127.0.0.1:1/media"
    ended = workplace.run("media", "--burst")

    assert ended.returncode == 1
    assert "cannot_start" in ended.stderr
