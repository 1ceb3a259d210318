"""Apps as domains: what MEDIA_STREAMS may say, and which sources and ids an app may speak of."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from storage.catalog.records import DeletionRequested, StreamId, UploadRequested
from tests.support.catalogs import letter
from tests.support.face import settings_in
from worker.domains import Domains, origin_of, parse_domains, with_origin, within
from worker.events import InvalidEvent
from worker.stores import open_stores
from worker.upload_ids import default_id

STREAM, EVENTS = "media:uploads", "media:events"
SHOP = "media:uploads:shop=uploads/shop/"


def domains(value: str) -> Domains:
    return parse_domains(value, STREAM, EVENTS)


def told(found: Domains, source: str) -> str | None:
    return found.told(None, source)


MISTAKES = {
    "no prefix": ("media:uploads:shop", "STREAM=PREFIX"),
    "another stream": ("shop=uploads/shop/", "streams such as media:uploads:shop"),
    "the main stream": ("media:uploads=uploads/shop/", "streams such as"),
    "a colon": ("media:uploads:a:b=uploads/shop/", "streams such as"),
    "a key of the queue": ("media:uploads:jobs=uploads/shop/", "for something else"),
    "the relay's key": ("media:uploads:relay=uploads/shop/", "for something else"),
    "a stream twice": (f"{SHOP},media:uploads:shop=uploads/b/", "names media:uploads:shop twice"),
    "a prefix twice": (f"{SHOP},media:uploads:blog=uploads/shop/", "gives uploads/shop/ to two"),
    "no slash": ("media:uploads:shop=uploads/shop", "end with /"),
    "everything": ("media:uploads:shop=uploads/", "prefixes such as"),
    "elsewhere": ("media:uploads:shop=variants/", "prefixes such as"),
    "dots": ("media:uploads:shop=uploads/a/../b/", "prefixes such as"),
    "no prefix at all": ("media:uploads:shop=", "prefixes such as"),
}


@pytest.mark.parametrize(("value", "reason"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_wrong_list_of_app_streams_is_refused_with_a_reason(value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        domains(value)


def test_messages_must_not_go_to_a_stream_of_events() -> None:
    with pytest.raises(ValueError, match="another MEDIA_EVENTS"):
        parse_domains("media:uploads:shop=uploads/shop/,media:uploads:a=uploads/a/", STREAM, STREAM)


def test_streams_of_apps_need_a_name_that_a_reason_can_tell() -> None:
    with pytest.raises(ValueError, match="without spaces"):
        parse_domains("a b:shop=uploads/shop/", "a b", EVENTS)


def test_messages_go_to_a_stream_that_is_named_as_the_apps_own() -> None:
    found = domains(f"{SHOP}, media:uploads:blog=uploads/blog/,")

    assert [told(found, f"uploads/{name}/a.jpg") for name in ("shop", "blog", "shops", "x")] == [
        "media:events:shop",
        "media:events:blog",
        None,
        None,
    ]


def test_the_longest_prefix_says_whose_a_source_is() -> None:
    found = domains(f"{SHOP},media:uploads:vip=uploads/shop/vip/")

    assert told(found, "uploads/shop/vip/a.jpg") == "media:events:vip"
    assert told(found, "uploads/shop/vip.jpg") == "media:events:shop"
    with pytest.raises(InvalidEvent, match="and not with uploads/shop/vip/"):
        within(upload("uploads/shop/vip/a.jpg"), found.all[0])


def test_without_app_streams_nobody_is_told_apart() -> None:
    assert told(domains(""), "uploads/shop/a.jpg") is None


def upload(source: str, given: UUID | None = None) -> UploadRequested:
    return UploadRequested(StreamId(), given or default_id(source), source, "default")


def test_an_app_may_choose_random_ids_and_none_that_others_can_compute() -> None:
    [shop] = domains(SHOP).all

    for given in (None, uuid4()):
        event = within(upload("uploads/shop/a.jpg", given), shop)
        assert event.domain == shop
    with pytest.raises(InvalidEvent, match="id: must be the source's own or a random UUID"):
        within(upload("uploads/shop/a.jpg", default_id("uploads/blog/a.jpg")), shop)


def test_whose_a_deleted_upload_is_only_the_catalog_knows() -> None:
    [shop] = domains(SHOP).all

    assert within(DeletionRequested(StreamId(), uuid4()), shop).domain == shop


def test_a_letters_reason_tells_the_stream_that_it_came_by() -> None:
    reason = with_origin("media:uploads:shop", "7-1", "not JSON: x")

    assert reason == "on media:uploads:shop, 7-1: not JSON: x"
    assert origin_of(reason) == ("media:uploads:shop", "not JSON: x")
    assert origin_of(with_origin(None, None, "not JSON: x")) == (None, "not JSON: x")


async def test_what_a_worker_takes_waits_in_the_turn_of_its_own_apps_owner(tmp_path: Path) -> None:
    event = UploadRequested(StreamId(1), uuid4(), "uploads/shop/cat.jpg", "default", owner="42")
    async with open_stores(settings_in(tmp_path, "redis://127.0.0.1:1/0", streams=SHOP)) as stores:
        await stores.catalog.intake.take([(event, letter("1-0"))], [], admit=lambda owners: [False])

        assert await stores.catalog.parking.owners() == ["shop:42"]
