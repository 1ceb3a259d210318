"""From one host to many and back: blobs and catalog move, and nothing of what was there is missing."""

import boto3
import pytest

from scripts.s3_server import SeaweedServer
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.s3 import new_place
from tests.support.workplace import Workplace

SOURCE, LATER = "uploads/a/first.jpg", "uploads/b/second.jpg"


@pytest.fixture
def place(workplace: Workplace, seaweedfs: SeaweedServer) -> Workplace:
    """A workplace with one ready upload, whose settings can reach the bucket."""
    workplace.settings |= seaweedfs.env
    workplace.send({"source": workplace.put(SOURCE, pictures.small(1))})
    assert workplace.run("media", "--burst").returncode == 0
    return workplace


def moves(place: Workplace, storage: str, catalog: str) -> None:
    """Both moves, as docs/many-hosts.md has them."""
    blobs = media(place.env(), "copy-blobs", "--to", storage, "--finish", "--json")
    assert blobs.returncode == 0, blobs.stderr
    place.settings["MEDIA_STORAGE_URL"] = storage
    rows = media(place.env(), "migrate-catalog", "--to", catalog, "--json")
    assert rows.returncode == 0, rows.stderr
    place.settings["MEDIA_CATALOG_URL"] = catalog


def test_an_installation_moves_to_postgres_and_a_bucket_and_back(
    place: Workplace, seaweedfs: SeaweedServer, postgres_url: str
) -> None:
    here = place.env()
    bucket = new_place(seaweedfs)
    moves(place, str(bucket), postgres_url)

    s3 = boto3.client("s3", endpoint_url=seaweedfs.endpoint)
    s3.put_object(Bucket=bucket.bucket, Key=f"{bucket.prefix}/{LATER}", Body=pictures.small(2))
    place.send({"source": LATER})
    assert place.run("media", "--burst").returncode == 0
    answer = place.await_end_of(LATER)[LATER]
    assert answer["type"] == "upload.ready"
    thumb = s3.get_object(Bucket=bucket.bucket, Key=f"{bucket.prefix}/{answer['variants'][0]['key']}")
    assert "immutable" in thumb["CacheControl"]
    verified = media(place.env(), "sweep", "--verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    late = place.run(
        "media",
        "--burst",
        MEDIA_STORAGE_URL=here["MEDIA_STORAGE_URL"],
        MEDIA_CATALOG_URL=here["MEDIA_CATALOG_URL"],
    )
    assert late.returncode == 1
    assert "was moved to postgresql://" in late.stderr

    moves(place, here["MEDIA_STORAGE_URL"], here["MEDIA_CATALOG_URL"])
    assert place.run("media", "--burst").returncode == 0
    assert place.check().states == {"ready": 2}
    assert document(media(place.env(), "stats", "--json"))["uploads"]["ready"] == 2
