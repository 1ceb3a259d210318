"""`media failed`: what failed is listed, tried again or forgotten, by id, by code or all of it."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.workplace import Workplace, database_on

pytestmark = pytest.mark.rotating(4, of="module")

BROKEN, UNKNOWN = "uploads/broken.jpg", "uploads/unknown.bin"


@pytest.fixture(scope="module")
def failed(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """Where two uploads have failed and two events were refused."""
    place = Workplace(tmp_path_factory.mktemp("failed"), database_on(redis_server.url), migrated)
    place.put(BROKEN, pictures.medium()[:5000])
    place.put(UNKNOWN, b"no picture at all")
    place.send_all({"source": source} for source in (BROKEN, UNKNOWN))
    place.send({"source": "elsewhere/x.jpg"})
    place.send({"source": "uploads/x.jpg", "recipe": "nobody-knows"})
    assert place.run("media", "--burst").returncode == 0
    yield place
    place.close()


@pytest.fixture
def place(failed: Workplace, workplace: Workplace) -> Workplace:
    """A copy of it to try things on."""
    shutil.copytree(failed.home, workplace.home, dirs_exist_ok=True)
    for key in failed.redis.scan_iter():
        dumped: Any = failed.redis.dump(key)
        workplace.redis.restore(key, 0, dumped)
    return workplace


def _failed(place: Workplace, *words: str, code: int = 0) -> Any:
    ended = media(place.env(), "failed", *words, "--json")
    assert ended.returncode == code, ended.stderr
    return document(ended)


def _ids(place: Workplace) -> dict[str, str]:
    return {upload["source"]: upload["id"] for upload in _failed(place, "list")["uploads"]}


def _mend(place: Workplace) -> None:
    place.put(BROKEN, pictures.small(1))
    place.put(UNKNOWN, pictures.small(2))


def _states(place: Workplace) -> dict[str, str]:
    assert place.run("media", "--burst").returncode == 0
    return {source: row["state"] for source, row in place.check().uploads.items()}


@pytest.mark.rotating(1)
def test_an_upload_is_tried_again_by_its_id_and_the_others_are_left_alone(place: Workplace) -> None:
    _mend(place)

    broken_id = _ids(place)[BROKEN]

    assert _failed(place, "retry", broken_id)["uploads"] == [broken_id]

    assert _states(place) == {BROKEN: "ready", UNKNOWN: "failed"}


def test_uploads_are_tried_again_by_their_code(place: Workplace) -> None:
    _mend(place)

    assert len(_failed(place, "retry", "--code", "unsupported_format")["uploads"]) == 1

    assert _states(place) == {BROKEN: "failed", UNKNOWN: "ready"}


def test_everything_is_tried_again_and_events_that_are_still_wrong_are_refused_again(
    place: Workplace,
) -> None:
    _mend(place)

    retried = _failed(place, "retry", "--all")

    assert (len(retried["uploads"]), len(retried["dead_letters"])) == (2, 2)
    assert _states(place) == {BROKEN: "ready", UNKNOWN: "ready"}
    assert len(_failed(place, "list")["dead_letters"]) == 2


def test_what_was_sent_in_no_field_event_stays_with_exit_code_1_and_its_reason(place: Workplace) -> None:
    place.send_raw({"foo": "bar"})
    assert place.run("media", "--burst").returncode == 0
    number = str(_failed(place, "list")["dead_letters"][0]["id"])

    assert _failed(place, "retry", number, code=1)["kept"] == [number]
    said = media(place.env(), "failed", "retry", number).stdout
    assert f"Dead letter {number} stays: its entry had no event to send, so it can only be discarded." in said
    assert _failed(place, "list")["dead_letters"][0]["body"] == "foo=bar"
    assert _failed(place, "discard", number)["dead_letters"] == [int(number)]


def test_a_refused_event_is_thrown_away_by_its_number(place: Workplace) -> None:
    first, second = (letter["id"] for letter in _failed(place, "list")["dead_letters"])

    assert _failed(place, "discard", str(first))["dead_letters"] == [first]

    assert [letter["id"] for letter in _failed(place, "list")["dead_letters"]] == [second]


def test_failed_uploads_are_forgotten_and_their_originals_stay(place: Workplace) -> None:
    _failed(place, "discard", "--all")

    left = _failed(place, "list")
    assert (left["uploads"], left["dead_letters"]) == ([], [])
    assert (place.root / BROKEN).exists()
    assert _states(place) == {BROKEN: "deleted", UNKNOWN: "deleted"}


def test_a_running_worker_sends_messages_about_discarded_uploads(place: Workplace) -> None:
    place.listen(lambda got: len(got) == 4)
    worker = place.start()
    _failed(place, "discard", "--all")

    answer = place.listen(lambda got: len(got) == 6, within=10)[4:]

    assert {message["source"]: message["type"] for message in answer} == dict.fromkeys(
        (BROKEN, UNKNOWN), "upload.deleted"
    )
    assert worker.stop() == 0
    place.check()


def test_what_waits_for_another_try_is_listed_with_its_reason(place: Workplace) -> None:
    with closing(sqlite3.connect(place.catalog, isolation_level=None)) as catalog:
        catalog.execute("UPDATE uploads SET state = 'queued' WHERE source = ?", [BROKEN])

    listed = _failed(place, "list")

    assert [(one["source"], one["error"]["code"]) for one in listed["waiting"]] == [(BROKEN, "corrupt_image")]
    assert listed["waiting"][0]["next_try"]
    assert listed["total"] == {"uploads": 1, "waiting": 1, "dead_letters": 2}
    assert "Waiting for another try" in media(place.env(), "failed", "list").stdout


def _put_off(place: Workplace) -> str:
    """One upload that waits an hour for another try, since the storage was full."""
    with closing(sqlite3.connect(place.catalog, isolation_level=None)) as catalog:
        waits = "state = 'queued', error_code = 'storage_full', not_before_ms = changed_ms + 3600000"
        catalog.execute(f"UPDATE uploads SET {waits} WHERE source = ?", [BROKEN])
        return str(catalog.execute("SELECT id FROM uploads WHERE source = ?", [BROKEN]).fetchone()[0])


@pytest.mark.parametrize("words", [["--code", "storage_full"], ["--all"], ["ID"]])
def test_what_waits_for_another_try_is_tried_now(place: Workplace, words: list[str]) -> None:
    waiting = _put_off(place)
    _mend(place)

    retried = _failed(place, "retry", *(waiting if word == "ID" else word for word in words))

    assert (retried["due"], retried["not_failed"]) == ([waiting], [])
    assert waiting not in retried["uploads"]
    assert _states(place)[BROKEN] == "ready"


def test_people_are_told_how_many_are_queued_and_how_many_are_due_now(place: Workplace) -> None:
    _put_off(place)

    said = media(place.env(), "failed", "retry", "--all").stdout

    assert "1 upload and 2 dead letters are queued." in said
    assert "1 upload is due now that waited for another try." in said


def test_what_waits_for_another_try_is_not_thrown_away(place: Workplace) -> None:
    waiting = _put_off(place)

    assert _failed(place, "discard", waiting, code=1)["not_failed"] == [waiting]
    assert waiting not in _failed(place, "discard", "--all")["uploads"]


def test_what_has_not_failed_is_said_with_exit_code_1(place: Workplace) -> None:
    answer = _failed(place, "retry", "00000000-0000-4000-8000-000000000000", "999", code=1)

    assert answer["not_failed"] == ["00000000-0000-4000-8000-000000000000", "999"]


def test_not_to_say_which_is_bad_usage(place: Workplace) -> None:
    for words in ([], ["--all", "--code", "corrupt_image"], ["--all", "1"], ["--code", "corupt_image"]):
        assert media(place.env(), "failed", "retry", *words).returncode == 2


def test_nothing_is_tried_again_while_redis_is_away(place: Workplace) -> None:
    away = place.env(MEDIA_REDIS_URL="redis://127.0.0.1:1/0")

    assert media(away, "failed", "retry", "--all").returncode == 1

    assert place.check(settled=False).states == {"failed": 2}
