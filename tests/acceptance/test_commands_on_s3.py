"""The commands on a storage that is a bucket."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import obstore
import pytest

from scripts.readme import DOCS
from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from tests.support import pictures
from tests.support.commands import Ended, forked
from tests.support.s3_proxy import s3_proxy
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import database_on

PAGE = DOCS / "many-hosts.md"
SOURCES = ("uploads/a/b.jpg", "uploads/a-b.jpg", "uploads/a.jpg")  # which SeaweedFS lists in this order


@pytest.fixture(params=["seaweedfs", "ministack"])
def on_s3(
    request: pytest.FixtureRequest, redis_server: RedisServer, migrated: Path, tmp_path: Path
) -> Iterator[S3Workplace]:
    """An installation with its files in a bucket, and some of them ready."""
    server: S3Server = request.getfixturevalue(request.param)
    place = S3Workplace(tmp_path, database_on(redis_server.url), server, migrated, MEDIA_GRACE="0")
    sources = [place.put(source, pictures.small(at)) for at, source in enumerate(SOURCES)]
    place.send_all({"source": source} for source in sources)
    assert place.run("media", "--burst").returncode == 0
    yield place
    place.close()


def media(place: S3Workplace, *words: str, **settings: str) -> Ended:
    return forked(["media", *words], place.env(**settings), place.home)


def answer(place: S3Workplace, *words: str, **settings: str) -> Any:
    ended = media(place, *words, "--json", **settings)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.rotating(1)
def test_a_sweep_removes_orphans_and_makes_lost_variants_again(on_s3: S3Workplace) -> None:
    lost, *kept = on_s3.keys("variants")
    orphan = "variants/ab/cd/abcd0000-0000-4000-8000-000000000000.jpg"
    obstore.put(on_s3.store, orphan, b"nobody's")
    obstore.delete(on_s3.store, lost)

    swept = answer(on_s3, "sweep", "--apply")

    assert swept["done"] == {"orphan": 1, "missing": 1}
    assert on_s3.keys("variants") == kept
    assert f"trash/{swept['plan']}/{orphan}" in on_s3.keys("trash")
    assert on_s3.run("media", "--burst").returncode == 0
    assert on_s3.keys("variants") == sorted([lost, *kept])

    assert answer(on_s3, "sweep", "restore", swept["plan"])["restored"] == 1
    assert bytes(obstore.get(on_s3.store, orphan).bytes()) == b"nobody's"
    obstore.delete(on_s3.store, orphan)
    on_s3.check()


@pytest.mark.rotating(1)
def test_the_trash_is_purged_when_its_time_is_over(on_s3: S3Workplace) -> None:
    orphan = "variants/ab/cd/abcd0000-0000-4000-8000-000000000000.jpg"
    obstore.put(on_s3.store, orphan, b"nobody's")
    answer(on_s3, "sweep", "--apply", MEDIA_RETENTION="0")

    assert answer(on_s3, "sweep", "purge", MEDIA_RETENTION="0")["done"]["purged"] == 1
    assert on_s3.keys("trash") == []


@pytest.mark.rotating(1)
def test_damaged_variants_are_found_and_made_again(on_s3: S3Workplace) -> None:
    damaged = on_s3.keys("variants")[0]
    obstore.put(on_s3.store, damaged, b"rotten")

    assert answer(on_s3, "sweep", "--verify")["damaged"] == [damaged]
    assert on_s3.run("media", "--burst").returncode == 0
    on_s3.check()


@pytest.mark.rotating(1)
def test_stats_count_what_is_really_there(on_s3: S3Workplace) -> None:
    on_s3.put("uploads/unannounced.jpg", pictures.small(9))

    found = answer(on_s3, "stats", "--scan")
    shown = media(on_s3, "stats").stdout

    assert found["drift"]["areas"]["variants"]["count"] == 9
    assert found["drift"]["findings"]["unannounced"]["count"] == 1
    assert found["drift"]["findings"]["lost"]["count"] == 0
    assert found["space"] is None
    assert "free" not in shown


@pytest.mark.parametrize("on_s3", ["seaweedfs"], indirect=True)
def test_an_upload_takes_as_many_requests_as_the_documentation_says(on_s3: S3Workplace) -> None:
    key = on_s3.put("uploads/counted.jpg", pictures.small(9))
    before = set(on_s3.keys("variants"))
    on_s3.send({"source": key})
    with s3_proxy(on_s3.place.endpoint) as proxy:
        on_s3.settings["MEDIA_S3_ENDPOINT"] = proxy.endpoint
        assert on_s3.run("media", "--burst").returncode == 0

    made = [key, *before.symmetric_difference(on_s3.keys("variants"))]
    asked = Counter(method for method, path in proxy.requests if path.endswith(tuple(made)))
    told = re.search(r"requests to S3 \| \| \*\*([^*]+)\*\*", PAGE.read_text())
    assert told is not None
    assert told[1] == ", ".join(f"{asked[method]} {method}" for method in ("HEAD", "GET", "PUT"))
    assert asked.total() == 6


@pytest.mark.rotating(1)
def test_a_lost_catalog_is_rebuilt_from_the_bucket(on_s3: S3Workplace) -> None:
    for path in on_s3.home.glob("catalog.db*"):
        path.unlink()
    refused = on_s3.run("media", "--burst")
    on_s3.redis.flushdb()

    assert answer(on_s3, "rebuild", "--yes")["queued"] == 3
    assert on_s3.run("media", "--burst").returncode == 0
    assert on_s3.check().states == {"ready": 3}
    assert refused.returncode == 1
    assert f"{on_s3.place} has a .media-root.json already" in refused.stderr


@pytest.mark.rotating(1)
def test_the_doctor_finds_the_bucket_well(on_s3: S3Workplace) -> None:
    found = {one["what"]: one for one in json.loads(media(on_s3, "doctor", "--json").stdout)}

    assert found["Storage"]["level"] == found["Writing"]["level"] == found["Lifecycle"]["level"] == "ok"
    assert str(on_s3.place) in found["Storage"]["detail"]


@pytest.mark.rotating(1)
def test_the_doctor_names_a_bucket_that_is_not_there(on_s3: S3Workplace) -> None:
    gone = media(on_s3, "doctor", MEDIA_STORAGE_URL="s3://no-such-bucket").stdout
    assert "There is no bucket no-such-bucket" in " ".join(gone.split())


@pytest.mark.parametrize("on_s3", ["ministack"], indirect=True)
def test_the_doctor_names_a_rule_that_would_delete_variants(on_s3: S3Workplace) -> None:
    client = boto3.client("s3", endpoint_url=on_s3.place.endpoint)
    rule = {"ID": "tidy", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(
        Bucket=on_s3.place.bucket, LifecycleConfiguration={"Rules": [rule]}
    )
    try:
        found = [
            one for one in json.loads(media(on_s3, "doctor", "--json").stdout) if one["level"] == "error"
        ]
    finally:
        client.delete_bucket_lifecycle(Bucket=on_s3.place.bucket)
        client.close()

    assert "the lifecycle rule tidy deletes what lies in variants/" in [one["detail"] for one in found]
