"""The Python client with a real worker and a real HTTP server: from a picture to what the app hears."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from media_worker_client import (
    HttpMediaClient,
    MediaClient,
    MediaError,
    MediaTimeout,
    Message,
    Outbox,
    upload_id,
)
from media_worker_client.fake import FakeMedia
from scripts import readme
from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import document
from tests.support.commands import media as command
from tests.support.face import SECRET, FaceProcess, start_face
from tests.support.listening_app import ListeningApp, listening_app
from tests.support.workplace import Workplace, database_on, eventually

CLIENT = readme.README.parent / "clients/python"
PICTURE = readme.README.parent / "scripts/pictures/cairn.jpg"


@pytest.fixture(scope="module")
def place(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("live"), database_on(redis_server.url), migrated)
    place.settings["MEDIA_MAX_SOURCE_BYTES"] = "1000000"
    shutil.copy(PICTURE, place.home / "cat.jpg")
    place.start()
    yield place
    place.close()


@pytest.fixture(scope="module")
def media(place: Workplace) -> Iterator[MediaClient]:
    with MediaClient(place.redis_url) as media:
        yield media


@pytest.fixture(scope="module")
def app(media: MediaClient) -> Iterator[ListeningApp]:
    app = ListeningApp(media, None, group="my-app")
    yield app
    app.close()


@pytest.fixture(scope="module")
def face(place: Workplace) -> FaceProcess:
    return start_face(place, MEDIA_HTTP_URL="https://media.example.com/", MEDIA_HTTP_RATE="0")


@pytest.fixture(scope="module")
def key(place: Workplace, face: FaceProcess) -> str:
    made = command(place.env(), "keys", "new", "app", "--scope", "upload,read,operate", "--json")
    return str(document(made)["secret"])


@pytest.fixture(scope="module")
def http(face: FaceProcess, key: str) -> HttpMediaClient:
    return HttpMediaClient(face.url, key)


def test_an_app_announces_a_picture_and_hears_of_its_variants(
    place: Workplace, media: MediaClient, app: ListeningApp
) -> None:
    source = place.put("uploads/42/cat.jpg", pictures.medium())

    upload = media.announce(source, metadata={"post": 7}, owner="42")
    heard = app.await_that(lambda heard: any(message.id == upload for message in heard))

    [ready] = [message for message in heard if message.id == upload]
    assert (ready.type, ready.source, ready.metadata) == ("upload.ready", source, {"post": 7})
    assert [variant.name for variant in ready.variants] == ["thumb", "medium", "large"]
    assert (place.root / ready.variants[0].key).stat().st_size == ready.variants[0].bytes
    assert upload == upload_id(source)


def test_an_app_hears_why_a_picture_failed_and_that_it_was_deleted(
    place: Workplace, media: MediaClient, app: ListeningApp
) -> None:
    upload = media.announce(place.put("uploads/42/text.jpg", b"no picture"))
    media.delete(upload, original=True)
    heard = app.await_that(
        lambda heard: any((message.id, message.type) == (upload, "upload.deleted") for message in heard)
    )

    told = [message for message in heard if message.id == upload]
    assert [message.state for message in told][-1] == "deleted"
    assert told[-1].original == "kept"
    assert {message.error.code for message in told if message.error} <= {"unsupported_format"}


def test_an_app_asks_for_the_state_of_an_upload(
    place: Workplace, media: MediaClient, app: ListeningApp
) -> None:
    upload = media.announce(place.put("uploads/42/asked.jpg", pictures.small(1)), metadata={"post": 8})
    app.await_that(lambda heard: any(message.id == upload for message in heard))
    answer = media.status(upload)

    assert answer is not None
    assert (answer.state, answer.source, answer.metadata) == ("ready", "uploads/42/asked.jpg", {"post": 8})
    assert [variant.name for variant in answer.variants] == ["thumb", "medium", "large"]
    assert media.status("6f1c2f5e-5a4e-4d55-9a7e-0d3f6f2f1a11") is None


def test_an_app_reads_what_uploads_may_be_over_redis_and_over_http(
    media: MediaClient, face: FaceProcess
) -> None:
    limits = media.limits()

    assert limits["max_bytes"] == 1_000_000
    assert "jpeg" in limits["formats"]
    assert limits == HttpMediaClient(face.url).limits()  # which needs no key


def test_a_replaced_upload_goes_once_the_new_one_is_ready(
    place: Workplace, media: MediaClient, app: ListeningApp
) -> None:
    old = media.announce(place.put("uploads/42/old.jpg", pictures.small(21)))
    new = media.replace(old, place.put("uploads/42/new.jpg", pictures.small(22)))
    heard = app.await_that(
        lambda heard: any((message.id, message.type) == (old, "upload.deleted") for message in heard)
    )

    told = [(message.id, message.type) for message in heard if message.id in (old, new)]
    assert told[-2:] == [(new, "upload.ready"), (old, "upload.deleted")]
    assert [message.raw.get("replaced_by") for message in heard if message.id == old][-1] == new


def told_of(message: Message) -> dict[str, Any]:
    """What an app may go by, without what is of its picture or its time."""
    return {
        "fields": set(message.raw),
        "about": (message.type, message.state, message.id, message.source, message.metadata),
        "error": (message.error and message.error.code, message.entry is not None),
        "original": message.original if isinstance(message.original, str) else None,
        "more": [message.raw.get(name) for name in ("recipe", "replaces", "replaced_by", "traceparent")],
    }


def test_the_fake_tells_what_a_worker_tells(place: Workplace, media: MediaClient, app: ListeningApp) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    cat, text, new = (f"uploads/fake/{name}" for name in ("cat.jpg", "text.jpg", "new.jpg"))
    for source, data in ((cat, pictures.small(41)), (text, b"no"), (new, pictures.small(42))):
        place.put(source, data)
    fake = FakeMedia()
    fake.fail(text, "unsupported_format")
    unknown = str(uuid4())
    steps: list[tuple[int, Callable[[MediaClient | FakeMedia], object]]] = [
        (1, lambda media: media.announce(cat, metadata={"post": 7, "of": (1, 2)}, traceparent=trace)),
        (1, lambda media: media.announce(text, metadata={"of": [{1: "one"}]}, owner="42")),
        (1, lambda media: media.announce(new, id=upload_id(cat))),
        (2, lambda media: media.replace(upload_id(cat), new, metadata={"post": 8}, traceparent=trace)),
        (2, lambda media: media.replace(unknown, new, metadata={"post": 8})),
        (1, lambda media: media.delete(unknown, original=True)),
        (1, lambda media: media.delete(upload_id(new), traceparent=trace)),
        (1, lambda media: media.delete(upload_id(new))),
    ]
    since = len(app.heard)
    expected = since
    for count, step in steps:
        step(media)
        step(fake)
        expected += count
        app.await_count(expected)
    fake.fail(cat, "unknown_recipe")
    media.announce(cat, recipe="huge")
    fake.announce(cat)
    app.await_count(expected + 1)

    assert [told_of(one) for one in fake.deliver()] == [told_of(one) for one in app.heard[since:]]
    for upload in (upload_id(cat), upload_id(text), upload_id(new), unknown):
        real, faked = media.status(upload), fake.status(upload)
        assert real is not None
        assert faked is not None
        names = ("id", "state", "source", "seq", "metadata", "attempts", "original", "thumbhash", "srcset")
        assert [getattr(faked, name) for name in names] == [
            getattr(real, name) if name != "seq" else real.seq - app.heard[since].seq + 1 for name in names
        ]


def test_a_listener_hears_of_a_worker_what_was_trimmed_under_it(place: Workplace) -> None:
    redis, events = place.redis, "media:events"
    sources = [place.put(f"uploads/42/{n}.jpg", data) for n, data in enumerate([pictures.small(31), b"none"])]
    redis.xgroup_create(events, "trimmed", "$", mkstream=True)
    uploads = [media_id(place, source) for source in sources]
    place.await_end_of(*sources)
    redis.xtrim(events, maxlen=0, approximate=False)
    with (
        MediaClient(place.redis_url) as media,
        listening_app(media, group="trimmed", pending=lambda: uploads) as app,
    ):
        app.await_that(lambda heard: {message.id for message in heard} >= set(uploads))

    told = {message.id: message for message in app.heard}
    assert [told[upload].type for upload in uploads] == ["upload.ready", "upload.failed"]
    assert told[uploads[0]].variants
    assert told[uploads[1]].error is not None


def media_id(place: Workplace, source: str) -> str:
    """Announce a source; returns its upload's id."""
    place.send({"source": source})
    return upload_id(source)


def test_an_outbox_brings_what_was_never_announced(
    place: Workplace, media: MediaClient, app: ListeningApp
) -> None:
    source = place.put("uploads/42/late.jpg", pictures.small(3))
    outbox = Outbox(media, lambda: [{"source": source}])

    assert outbox.flush() == 1
    app.await_that(lambda heard: any(message.source == source for message in heard))


def test_an_upload_over_http_has_its_variants_with_links(http: HttpMediaClient, place: Workplace) -> None:
    upload = http.upload(place.home / "cat.jpg", filename="cat.jpg", metadata={"post": 7}, wait=20)

    assert (upload.state, upload.metadata) == ("ready", {"post": 7, "filename": "cat.jpg"})
    assert [str(one.url).partition("variants/")[0] for one in upload.variants] == [
        "https://media.example.com/files/"
    ] * 3
    again = http.status(upload.id)
    assert again is not None
    assert (again.state, again.srcset) == ("ready", upload.srcset)


def test_another_try_over_http_is_the_same_upload(http: HttpMediaClient) -> None:
    first, second = (http.upload(pictures.small(5), idempotency_key="post-5") for _ in range(2))

    assert first.id == second.id
    with pytest.raises(MediaError, match="digest_mismatch") as refused:
        http.upload(pictures.small(6), idempotency_key="post-5")
    assert refused.value.status == 422


def test_what_the_server_refuses_is_an_error_with_its_code(http: HttpMediaClient, face: FaceProcess) -> None:
    with pytest.raises(MediaError, match="source_too_large: An upload has at most 1000000 bytes"):
        http.upload(b"\xff\xd8\xff" + bytes(8_000_000))
    with pytest.raises(MediaError, match="unauthorized") as stranger:
        HttpMediaClient(face.url, "mw_no").upload(pictures.small())
    with pytest.raises(MediaError, match="unknown_recipe"):
        http.upload(pictures.small(), recipe="huge")
    assert stranger.value.status == 401
    assert http.status("6f1c2f5e-5a4e-4d55-9a7e-0d3f6f2f1a11") is None


def test_a_token_uploads_once(http: HttpMediaClient, face: FaceProcess) -> None:
    token = http.token(count=1, metadata={"user": 42}, expires_in=60)
    browser = HttpMediaClient(face.url, token["token"])

    assert browser.upload(pictures.small(7)).metadata == {"user": 42}
    with pytest.raises(MediaError, match="forbidden"):
        browser.upload(pictures.small(8))
    assert token["url"].endswith("/v1/uploads")


def test_who_knows_the_secret_uploads_for_any_owner(face: FaceProcess, http: HttpMediaClient) -> None:
    upload = HttpMediaClient(face.url, secret=SECRET).upload(pictures.small(9), owner="ada")

    assert str(upload.source).startswith("uploads/ada/")
    with pytest.raises(ValueError, match="MEDIA_HTTP_SECRET"):
        http.upload(pictures.small(), owner="ada")


def test_messages_over_http_go_on_after_the_last_one(http: HttpMediaClient) -> None:
    upload = http.upload(pictures.small(11), wait=20)
    messages = list(http.events())
    http.delete(upload.id)
    last = messages[-1].seq

    assert any((one.id, one.type) == (upload.id, "upload.ready") for one in messages)
    eventually(lambda: (upload.id, "upload.deleted") in [(one.id, one.type) for one in http.events(last)])
    assert http.status(upload.id) is None


def test_a_server_that_is_away_is_told_after_a_few_tries() -> None:
    pauses: list[float] = []
    away = HttpMediaClient("http://127.0.0.1:1", sleep=pauses.append)

    with pytest.raises(MediaError, match=r"unreachable: http://127\.0\.0\.1:1 cannot be reached"):
        away.limits()
    assert pauses == [0.5, 1.0, 2.0]
    with pytest.raises(FileNotFoundError):
        away.upload("there-is-no-such-file.jpg")
    assert not issubclass(MediaTimeout, OSError)


SNIPPETS: dict[str, str] = dict(
    re.findall(
        r"<!-- snippet: ([\w-]+) -->\n```python\n(.*?)```\n",
        (CLIENT / "README.md").read_text("utf-8") + readme.README.read_text("utf-8"),
        re.DOTALL,
    )
)


def started(name: str, place: Workplace, **env: str) -> subprocess.Popen[str]:
    """A snippet of the client's README, which runs; each that listens, as a group of its own."""
    given = {"PATH": "/usr/bin", "PYTHONPATH": str(CLIENT), "REDIS_URL": place.redis_url, **env}
    return subprocess.Popen(
        [sys.executable, "-c", SNIPPETS[name].replace("my-app", name)],
        env=given,
        cwd=place.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out


def test_the_examples_for_python_in_both_readmes_work(place: Workplace, face: FaceProcess, key: str) -> None:
    place.put("uploads/2026/11/cat.jpg", PICTURE.read_bytes())
    listening = {
        "4a2ca705-03aa": started("listen", place),
        "upload.ready uploads/2026/11/cat.jpg variants/": started("client-python", place),
        "uploads/2026/11/cat.jpg": started("listen-async", place),
    }

    assert ended(started("announce", place)).strip() == "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"
    for what, process in listening.items():
        assert process.stdout is not None
        assert any(what in line for line in process.stdout), process.communicate()[1]
        process.kill()
        process.communicate()
    told = ended(started("upload-http", place, URL=face.url, KEY=key))
    assert told.startswith("ready ['https://media.example.com/files/variants/")
    assert ended(started("fake", place)) == ""
