"""Apps with streams of their own, and real workers that die."""

import json
import random
import time
from typing import Any

import pytest

from media_worker_client import MediaClient, upload_id
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.workplace import Workplace

pytestmark = WITH_SERVICES

STREAMS = "media:uploads:shop=uploads/shop/,media:uploads:blog=uploads/blog/"


@pytest.fixture
def apart(workplace: Workplace) -> Workplace:
    workplace.settings = {**workplace.settings, "MEDIA_STREAMS": STREAMS}
    return workplace


def send(place: Workplace, app: str, *sources: str) -> list[str]:
    """Put the pictures, and announce each on the app's own stream."""
    for number, source in enumerate(sources):
        place.put(source, pictures.small(number))
        place.redis.xadd(f"media:uploads:{app}", {"event": json.dumps({"source": source})})
    return list(sources)


def heard(place: Workplace, app: str) -> set[tuple[str, str]]:
    found: Any = place.redis.xrange(f"media:events:{app}")
    messages = [json.loads(fields[b"event"]) for _, fields in found]
    return {(message["source"], message["type"]) for message in messages}


def test_of_two_workers_one_dies_and_each_apps_uploads_end_once_on_its_own_stream(apart: Workplace) -> None:
    first = apart.start("media")
    apart.start("media")
    shop = send(apart, "shop", *(f"uploads/shop/{number}.jpg" for number in range(12)))
    first.kill()
    shop += send(apart, "shop", "uploads/shop/late.jpg")
    blog = send(apart, "blog", "uploads/blog/a.jpg")

    apart.await_end_of(*shop, *blog)

    assert heard(apart, "shop") == {(source, "upload.ready") for source in shop}
    assert heard(apart, "blog") == {(source, "upload.ready") for source in blog}
    apart.check()


def test_an_app_apart_asks_with_the_client_and_is_answered_on_its_own_stream_alone(apart: Workplace) -> None:
    apart.start("media")
    [source] = send(apart, "shop", "uploads/shop/a.jpg")
    apart.await_end_of(source)
    with MediaClient(apart.redis_url, stream="media:uploads:shop", events="media:events:shop") as client:
        upload = client.status(upload_id(source))

    assert upload is not None
    assert (upload.state, upload.source) == ("ready", source)
    assert [message["type"] for message in apart.messages] == ["upload.ready"]
    assert apart.redis.xlen("media:events") == 1


def announce_again(place: Workplace, sources: list[str], version: int) -> None:
    """Another event for each of the shop's uploads, in one go."""
    pipe = place.redis.pipeline(transaction=False)
    for source in sources:
        event = json.dumps({"source": source, "metadata": {"version": version}})
        pipe.xadd("media:uploads:shop", {"event": event})
    pipe.execute()


def newest_versions(messages: list[Any]) -> list[int]:
    newest = {message["source"]: message for message in sorted(messages, key=lambda one: int(one["seq"]))}
    return [message["metadata"].get("version", 0) for message in newest.values()]


@pytest.mark.campaign
def test_workers_killed_again_and_again_lose_and_double_no_event_of_an_app(apart: Workplace) -> None:
    workers = [apart.start("media") for _ in range(2)]
    sources = send(apart, "shop", *(f"uploads/shop/{number}.jpg" for number in range(20)))
    for version in range(1, 41):
        announce_again(apart, sources, version)
        time.sleep(random.random() / 2)  # a worker is killed wherever it is then
        if version % 5 == 0:
            workers.pop(0).kill()
            workers.append(apart.start("media", ready=False))

    apart.listen(lambda messages: newest_versions(messages) == [40] * len(sources))

    added: Any = apart.redis.xinfo_stream("media:uploads")
    assert added.get("entries-added", 820) == 820  # Redis 7 counts them
    assert apart.redis.xlen("media:uploads:shop") == 0


def test_a_burst_takes_what_is_on_the_streams_of_apps_and_doctor_knows_of_it(apart: Workplace) -> None:
    assert apart.run("media", "--burst").returncode == 0
    [source] = send(apart, "shop", "uploads/shop/a.jpg")
    found = document(media(apart.env(), "doctor", "--json"))
    [waiting] = [one for one in found if one["what"] == "Workers"]

    assert apart.run("media", "--burst").returncode == 0
    assert "1 event waits" in waiting["detail"]
    assert heard(apart, "shop") == {(source, "upload.ready")}
    assert apart.redis.xlen("media:uploads:shop") == 0


def test_a_list_of_streams_that_means_nothing_is_a_mistake_at_the_start(apart: Workplace) -> None:
    ended = apart.run("media", MEDIA_STREAMS="media:uploads:shop")

    assert ended.returncode == 2
    assert "MEDIA_STREAMS: lists STREAM=PREFIX" in ended.stderr
