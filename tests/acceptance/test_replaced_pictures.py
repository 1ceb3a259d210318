"""A picture takes the place of another: as apps send it, hear of it, and ask for it."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.workplace import Workplace, database_on, eventually

_numbers = itertools.count()


@pytest.fixture(scope="module")
def gallery(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A workplace whose worker also tells of what it begins."""
    home = tmp_path_factory.mktemp("gallery")
    place = Workplace(home, database_on(redis_server.url), MEDIA_STARTED="1", MEDIA_DELETE_ORIGINALS="1")
    place.start("media")
    yield place
    place.close()


def put(place: Workplace, content: bytes) -> tuple[str, str]:
    """A picture of a source of its own, and the id that its upload has."""
    source = place.put(f"uploads/{next(_numbers)}.jpg", content)
    return source, str(uuid5(NAMESPACE_URL, f"media:{source}"))


def hear(place: Workplace, upload_id: str, last: str) -> list[dict[str, Any]]:
    """The messages about an upload, once one of that type is the last."""

    def about(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [message for message in messages if message["id"] == upload_id]

    return about(place.listen(lambda messages: about(messages) and about(messages)[-1]["type"] == last))


def ask(place: Workplace, upload_id: str) -> dict[str, Any]:
    entry = place.send({"status": upload_id})
    messages = place.listen(lambda messages: any(one.get("entry") == entry for one in messages))
    return next(one for one in messages if one.get("entry") == entry)


def uploaded(place: Workplace, content: bytes) -> dict[str, Any]:
    """A picture that is ready: the message that says so."""
    source, upload_id = put(place, content)
    place.send({"source": source, "metadata": {"post": 7}})
    return hear(place, upload_id, "upload.ready")[-1]


def files(place: Workplace, ready: dict[str, Any]) -> list[bool]:
    return [(place.root / variant["key"]).is_file() for variant in ready["variants"]]


def test_the_old_variants_are_served_until_the_new_ones_are_and_after(gallery: Workplace) -> None:
    old = uploaded(gallery, pictures.small(1))
    source, new_id = put(gallery, pictures.small(2))
    gallery.send({"source": source, "replaces": old["id"]})
    deleted = hear(gallery, old["id"], "upload.deleted")[-1]
    new = hear(gallery, new_id, "upload.ready")[-1]

    assert (new["replaces"], deleted["replaced_by"], deleted["original"]) == (old["id"], new_id, "kept")
    assert gallery.messages.index(new) < gallery.messages.index(deleted)
    assert new["seq"] < deleted["seq"]
    assert deleted["metadata"] == {"post": 7}
    assert files(gallery, old) == files(gallery, new) == [True] * 3
    answer = ask(gallery, old["id"])
    assert (answer["state"], answer["replaced_by"], answer["variants"]) == ("deleted", new_id, [])
    gallery.check()


def test_a_picture_that_cannot_be_made_takes_nobodys_place(gallery: Workplace) -> None:
    old = uploaded(gallery, pictures.small(3))
    source, new_id = put(gallery, b"no picture")
    gallery.send({"source": source, "replaces": old["id"]})
    hear(gallery, new_id, "upload.failed")

    answer = ask(gallery, old["id"])
    assert (answer["state"], answer["seq"], answer["variants"]) == ("ready", old["seq"], old["variants"])
    assert (answer["srcset"], answer["original"]) == (old["srcset"], old["original"])
    gallery.check()


def test_an_upload_tells_of_its_start_and_a_deletion_of_its_original(gallery: Workplace) -> None:
    ready = uploaded(gallery, pictures.large(4))
    gallery.send({"delete": ready["id"], "original": True})
    heard = hear(gallery, ready["id"], "upload.deleted")

    assert [message["type"] for message in heard] == ["upload.started", "upload.ready", "upload.deleted"]
    assert (heard[0]["seq"], heard[0]["waiting"], heard[0]["metadata"]) == (0, 0, {"post": 7})
    assert heard[-1]["original"] == "trashed"
    assert ask(gallery, "6f1c0000-0000-4000-8000-000000000001")["state"] == "unknown"
    gallery.check()


def test_a_worker_tells_apps_at_its_start_what_it_accepts(gallery: Workplace) -> None:
    eventually(lambda: bool(gallery.redis.exists("media:limits")))
    limits = json.loads(cast(bytes, gallery.redis.get("media:limits")))

    assert (limits["max_bytes"], [one["name"] for one in limits["recipes"]]) == (10_485_760, ["default"])
