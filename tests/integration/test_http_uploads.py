"""Uploads over HTTP: each is one original and one event, whatever storage and catalog there are."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scripts.redis_server import RedisServer
from storage.catalog.records import UploadRequested
from tests.support.catalogs import delete_event, take, upload_event
from tests.support.face import OpenFace, install, opened_face, settings_in
from tests.support.pictures import medium, small
from tests.support.s3 import new_place
from tests.support.uploading import announced, digest_of, form, stored
from worker.queue import Queue
from worker.settings import Settings
from worker.upload_ids import default_id

JPEG = {"Content-Type": "image/jpeg"}
LIMIT = 200_000


@pytest.fixture
async def settings(
    request: pytest.FixtureRequest,
    database_kind: str,
    catalog_url: str,
    queue: Queue,
    server: RedisServer,
    migrated: Path,
    tmp_path: Path,
) -> Settings:
    """An installation of either kind, and its settings."""
    given: dict[str, Any] = {"catalog_url": catalog_url, "max_source_bytes": LIMIT}
    if database_kind == "postgres":
        ministack = request.getfixturevalue("ministack")
        given |= {"storage_url": str(new_place(ministack)), "s3_endpoint": ministack.endpoint}
    else:
        shutil.copy(migrated, tmp_path / "catalog.db")
    settings = settings_in(tmp_path, server.url, **given)
    await install(settings)
    return settings


@pytest.fixture(params=["sqlite", "postgres"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[OpenFace]:
    async with opened_face(settings) as opened:
        yield opened


def event_of(upload: dict[str, Any]) -> UploadRequested:
    return upload_event(1, UUID(upload["id"]), upload["source"], **upload["metadata"])


async def test_an_upload_is_one_original_and_one_event(opened: OpenFace) -> None:
    key = await opened.key("app")
    answer = await opened.client.post("/v1/uploads", content=small(), headers={**key, **JPEG})

    upload = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/uploads/{upload['id']}"
    assert await stored(opened) == {upload["source"]: small()}
    assert await announced(opened) == [{"source": upload["source"], "recipe": "default"}]
    assert upload["id"] == str(default_id(upload["source"]))
    assert (upload["state"], upload["variants"], upload["error"]) == ("queued", [], None)


async def test_the_name_says_the_format_of_the_bytes_whatever_the_header_says(opened: OpenFace) -> None:
    headers = {**await opened.key("app"), "Content-Type": "image/png"}
    answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    folder, shard, name = answer.json()["source"].rsplit("/", 2)
    assert folder == "uploads/http"
    assert name.endswith(".jpg")
    assert name.startswith(shard)


async def test_a_retry_under_the_same_key_is_the_same_upload(opened: OpenFace) -> None:
    headers = {**await opened.key("app"), **JPEG, "Idempotency-Key": "7f1c"}
    first = await opened.client.post("/v1/uploads", content=small(), headers=headers)
    again = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert len(await stored(opened)) == 1


@pytest.mark.parametrize(
    "other", [{"Media-Metadata": '{"album": 2}'}, {"Media-Recipe": "other"}], ids=["metadata", "recipe"]
)
@pytest.mark.parametrize("is_taken", [False, True], ids=["announced", "taken"])
async def test_a_retry_that_says_something_else_is_refused(
    settings: Settings, tmp_path: Path, other: dict[str, str], is_taken: bool
) -> None:
    book = tmp_path / "recipes.toml"
    book.write_text("[default.thumb]\nbox = 150\n[other.thumb]\nbox = 200\n")
    async with opened_face(settings.model_copy(update={"recipes": book})) as opened:
        headers = {
            **await opened.key("app"),
            **JPEG,
            "Idempotency-Key": "7f1c",
            "Media-Metadata": '{"album": 1}',
        }
        upload = (await opened.client.post("/v1/uploads", content=small(), headers=headers)).json()
        if is_taken:
            await take(opened.face.stores.catalog, event_of(upload))
        again = await opened.client.post("/v1/uploads", content=small(), headers={**headers, **other})

        assert (again.status_code, again.json()["code"]) == (422, "digest_mismatch")
        assert "another recipe or other metadata" in again.json()["detail"]
        assert len(await announced(opened)) == 1


@pytest.mark.parametrize("is_kept", [True, False], ids=["original kept", "original gone"])
async def test_a_retry_does_not_bring_back_what_was_deleted(opened: OpenFace, is_kept: bool) -> None:
    headers = {**await opened.key("app"), **JPEG, "Idempotency-Key": "7f1c", "Media-Metadata": '{"album": 1}'}
    upload = (await opened.client.post("/v1/uploads", content=small(), headers=headers)).json()
    catalog = opened.face.stores.catalog
    await take(catalog, event_of(upload))
    await take(catalog, delete_event(2, UUID(upload["id"])))
    if not is_kept:
        await opened.face.stores.blobs.delete(upload["source"])
    again = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert (again.status_code, again.json()["id"]) == (200, upload["id"])
    assert again.json()["state"] == "deleting"
    assert list(await stored(opened)) == [upload["source"]] * is_kept
    assert len(await announced(opened)) == 1


async def test_two_retries_at_the_same_time_are_one_upload(opened: OpenFace) -> None:
    headers = {**await opened.key("app"), **JPEG, "Idempotency-Key": "7f1c"}
    send = (opened.client.post("/v1/uploads", content=medium(), headers=headers) for _ in range(5))
    answers = await asyncio.gather(*send)

    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert list((await stored(opened)).values()) == [medium()]


@pytest.mark.parametrize("other", [small(1), b"GIF89a" + bytes(50)], ids=["jpeg", "another format"])
async def test_another_picture_under_the_same_key_is_refused(opened: OpenFace, other: bytes) -> None:
    headers = {**await opened.key("app"), **JPEG, "Idempotency-Key": "7f1c"}
    await opened.client.post("/v1/uploads", content=small(), headers=headers)
    answer = await opened.client.post("/v1/uploads", content=other, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert "was used for another picture" in answer.json()["detail"]
    assert list((await stored(opened)).values()) == [small()]


@pytest.mark.parametrize("other", [small(), small(1), b"GIF89a" + bytes(50)], ids=["same", "jpeg", "gif"])
async def test_of_two_pictures_under_one_key_at_two_servers_one_is_stored(
    settings: Settings, other: bytes
) -> None:
    both = asyncio.Barrier(2)

    async def together(content: bytes) -> AsyncIterator[bytes]:
        yield content[:-1]
        await both.wait()
        yield content[-1:]

    async with opened_face(settings) as one, opened_face(settings) as another:
        headers = {**await one.key("app"), **JPEG, "Idempotency-Key": "7f1c"}
        sent = [(one, small()), (another, other)]
        answers = await asyncio.gather(
            *(
                each.client.post("/v1/uploads", content=together(content), headers=headers)
                for each, content in sent
            )
        )

        statuses = {answer.status_code for answer in answers}
        assert statuses <= {200, 201} if other == small() else statuses == {201, 422}
        assert len(await stored(one)) == 1
        assert len({event["source"] for event in await announced(one)}) == 1


async def test_the_same_key_of_another_caller_is_another_upload(opened: OpenFace) -> None:
    ids = set()
    for name in ("app", "shop"):
        headers = {**await opened.key(name), **JPEG, "Idempotency-Key": "7f1c"}
        answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)
        ids.add(answer.json()["id"])

    assert len(ids) == 2


async def test_bytes_with_another_digest_leave_nothing(opened: OpenFace) -> None:
    headers = {**await opened.key("app"), **JPEG, "Repr-Digest": digest_of(b"other")}
    answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert (await stored(opened), await announced(opened)) == ({}, [])


async def test_bytes_with_their_digest_are_taken(opened: OpenFace) -> None:
    headers = {**await opened.key("app"), **JPEG, "Repr-Digest": f"unixsum=:MTIz:, {digest_of(small())}"}
    answer = await opened.client.post("/v1/uploads", content=small(), headers=headers)

    assert answer.status_code == 201


@pytest.mark.parametrize("content", [b"%PDF-1.7 ...", b"", bytes(5000)], ids=["pdf", "empty", "zeros"])
async def test_what_is_no_picture_is_refused_in_words(opened: OpenFace, content: bytes) -> None:
    headers = {**await opened.key("app"), **JPEG}
    answer = await opened.client.post("/v1/uploads", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert answer.json()["detail"].startswith(("This is a", "The file is empty"))
    assert await stored(opened) == {}


async def test_a_picture_over_the_limit_is_refused_by_its_length(opened: OpenFace) -> None:
    headers = {**await opened.key("app"), **JPEG}
    answer = await opened.client.post("/v1/uploads", content=bytes(LIMIT + 1), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (413, "source_too_large")
    assert answer.headers["upload-limit"] == f"max-size={LIMIT}"
    assert "connection" not in answer.headers


async def test_a_picture_without_a_length_is_counted(opened: OpenFace) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        yield small()
        yield bytes(size - len(small()))

    headers = {**await opened.key("app"), **JPEG}
    answers = [
        await opened.client.post("/v1/uploads", content=chunks(size), headers=headers)
        for size in (LIMIT, LIMIT + 1)
    ]

    assert [answer.status_code for answer in answers] == [201, 413]
    assert [len(content) for content in (await stored(opened)).values()] == [LIMIT]


async def test_a_picture_as_large_as_its_parts_in_a_bucket_is_whole(settings: Settings) -> None:
    large = small() + bytes(9 * 1024 * 1024)
    async with opened_face(settings.model_copy(update={"max_source_bytes": len(large)})) as opened:
        headers = {**await opened.key("app"), **JPEG, "Repr-Digest": digest_of(large)}
        answer = await opened.client.post("/v1/uploads", content=large, headers=headers)
        wrong = {**headers, "Repr-Digest": digest_of(b"other")}
        refused = await opened.client.post("/v1/uploads", content=large, headers=wrong)

        assert (answer.status_code, refused.status_code) == (201, 422)
        assert await stored(opened) == {answer.json()["source"]: large}


async def test_a_form_is_the_same_as_a_body(opened: OpenFace) -> None:
    content, kind = form(("recipe", b"default"), ("file", small()), ("metadata", b'{"album": "\xc3\xa4"}'))
    answer = await opened.client.post(
        "/v1/uploads", content=content, headers={**await opened.key("app"), **kind}
    )

    assert answer.status_code == 201
    assert (await announced(opened))[0]["metadata"] == answer.json()["metadata"] == {"album": "ä"}
    assert list((await stored(opened)).values()) == [small()]


async def test_a_wrong_field_after_the_file_leaves_nothing(opened: OpenFace) -> None:
    content, kind = form(("file", small()), ("recipe", b"unknown"))
    answer = await opened.client.post(
        "/v1/uploads", content=content, headers={**await opened.key("app"), **kind}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_recipe")
    assert (await stored(opened), await announced(opened)) == ({}, [])


async def test_putting_a_picture_replaces_what_is_there(opened: OpenFace) -> None:
    headers = {**await opened.key("app"), **JPEG}
    answers = [
        await opened.client.put("/v1/originals/2026/a%20cat.jpg", content=content, headers=headers)
        for content in (small(), small(), small(1))
    ]

    assert [answer.status_code for answer in answers] == [201, 200, 201]
    assert await stored(opened) == {"uploads/2026/a cat.jpg": small(1)}
    assert [event["source"] for event in await announced(opened)] == ["uploads/2026/a cat.jpg"] * 3


async def test_a_retry_sends_the_event_that_redis_did_not_take(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    async with opened_face(settings) as opened, opened_face(nowhere) as without_redis:
        headers = {**await opened.key("app"), **JPEG, "Idempotency-Key": "7f1c"}
        away = await without_redis.client.post("/v1/uploads", content=small(), headers=headers)
        again = await opened.client.post("/v1/uploads", content=small(), headers=headers)

        assert (away.status_code, away.json()["code"], away.headers["retry-after"]) == (503, "busy", "2")
        assert again.status_code == 200
        assert [event["source"] for event in await announced(opened)] == [again.json()["source"]]
        assert list(await stored(opened)) == [again.json()["source"]]


async def test_a_picture_is_not_replaced_while_redis_is_away(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    async with opened_face(settings) as opened, opened_face(nowhere) as without_redis:
        headers = {**await opened.key("app"), **JPEG}
        await opened.client.put("/v1/originals/cat.jpg", content=small(), headers=headers)
        away = await without_redis.client.put("/v1/originals/cat.jpg", content=small(1), headers=headers)

        assert (away.status_code, away.json()["code"], away.headers["retry-after"]) == (503, "busy", "2")
        assert await stored(opened) == {"uploads/cat.jpg": small()}


async def test_an_upload_that_no_retry_can_name_is_not_kept_while_redis_is_away(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    async with opened_face(nowhere) as opened:
        headers = {**await opened.key("app"), **JPEG}
        away = await opened.client.post("/v1/uploads", content=small(), headers=headers)

        assert (away.status_code, away.json()["code"]) == (503, "busy")
        assert await stored(opened) == {}
