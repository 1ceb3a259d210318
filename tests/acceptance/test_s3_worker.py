"""A worker whose files are in a bucket: the real process, a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server, SeaweedServer
from tests.support import pictures
from tests.support.s3 import own_seaweedfs
from tests.support.s3_proxy import s3_proxy
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import database_on

PICTURES: tuple[Callable[[], bytes], ...] = (pictures.small, pictures.medium, pictures.large)


@pytest.fixture
def on_s3(
    redis_server: RedisServer, seaweedfs: SeaweedServer, migrated: Path, tmp_path: Path
) -> Iterator[S3Workplace]:
    """An installation with its files in a bucket, and its catalog in a file."""
    place = S3Workplace(tmp_path, database_on(redis_server.url), seaweedfs, migrated)
    yield place
    place.close()


def test_originals_in_a_bucket_become_variants_in_it(on_s3: S3Workplace) -> None:
    worker = on_s3.start()
    sources = [on_s3.put(f"uploads/2026/{at}.jpg", made()) for at, made in enumerate(PICTURES)]
    on_s3.send_all({"source": source} for source in sources)
    answers = on_s3.await_end_of(*sources)

    assert {answer["type"] for answer in answers.values()} == {"upload.ready"}
    assert worker.stop() == 0
    found = on_s3.check()
    assert found.states == {"ready": len(PICTURES)}
    assert found.unreferenced == set()


def test_variants_in_a_bucket_are_served_for_ever_with_their_type(on_s3: S3Workplace) -> None:
    on_s3.start()
    source = on_s3.put("uploads/a.jpg", pictures.small())
    on_s3.send({"source": source})
    [thumb, *_] = on_s3.await_end_of(source)[source]["variants"]

    attributes = obstore.get(on_s3.store, thumb["key"]).attributes
    assert attributes["Content-Type"] == "image/jpeg"
    assert attributes["Cache-Control"] == "public, max-age=31536000, immutable"


def test_an_original_that_is_not_there_fails_and_one_that_is_deleted_goes_to_the_trash(
    on_s3: S3Workplace,
) -> None:
    on_s3.start(MEDIA_DELETE_ORIGINALS="1")
    source = on_s3.put("uploads/a.jpg", pictures.small())
    on_s3.send_all([{"source": source}, {"source": "uploads/none.jpg"}])
    answers = on_s3.await_end_of(source, "uploads/none.jpg", within=30)
    on_s3.send({"delete": answers[source]["id"], "original": True})
    deleted = on_s3.await_end_of(source, times=2)[source]

    assert answers["uploads/none.jpg"]["error"]["code"] == "source_missing"
    assert deleted["type"] == "upload.deleted"
    assert on_s3.keys("variants") == on_s3.keys("uploads") == []
    assert len(on_s3.keys("trash")) == 1


def test_an_original_that_nobody_announced_is_adopted(on_s3: S3Workplace) -> None:
    source = on_s3.put("uploads/found.jpg", pictures.small())
    on_s3.start(MEDIA_GRACE="0")

    assert on_s3.await_end_of(source)[source]["type"] == "upload.ready"


def test_an_original_is_fetched_once_and_one_that_is_too_large_never(
    redis_server: RedisServer, seaweedfs: SeaweedServer, migrated: Path, tmp_path: Path
) -> None:
    with s3_proxy(seaweedfs.endpoint) as proxy:
        behind = S3Server(proxy.endpoint, seaweedfs.pid)
        limits = {"MEDIA_MAX_SOURCE_BYTES": "5000"}
        place = S3Workplace(tmp_path, database_on(redis_server.url), behind, migrated, **limits)
        known = place.put("uploads/known.jpg", pictures.small())
        large = place.put("uploads/large.jpg", pictures.small() + bytes(5000))
        place.start()
        place.send_all([{"source": known}, {"source": large}])
        answers = place.await_end_of(known, large)
        place.send({"source": known})
        again = place.await_end_of(known, times=2)[known]
        place.close()

    fetched = [path for method, path in proxy.requests if method == "GET" and "/uploads/" in path]
    assert answers[large]["error"]["code"] == "source_too_large"
    assert again["type"] == "upload.ready"
    assert [path.rpartition("/")[2] for path in fetched] == ["known.jpg"]


@pytest.mark.fault(36)
def test_a_server_that_is_killed_under_load_costs_no_upload_an_attempt(
    redis_server: RedisServer, migrated: Path, tmp_path: Path
) -> None:
    with own_seaweedfs() as server:
        place = S3Workplace(tmp_path, database_on(redis_server.url), server, migrated)
        sources = [place.put(f"uploads/{at}.jpg", pictures.medium(at)) for at in range(30)]
        worker = place.start(MEDIA_CPUS="2")
        place.send_all({"source": source} for source in sources)
        place.listen(lambda answers: len(answers) >= 3)
        server.kill()
        worker.await_log("unhealthy")
        server.start()
        answers = place.await_end_of(*sources, within=60)

        assert {answer["type"] for answer in answers.values()} == {"upload.ready"}
        assert worker.stop() == 0
        found = place.check()
        place.close()
    assert {row["attempts"] for row in found.uploads.values()} == {0}
