"""Several events for one upload: the state that the contract says, and a message after each."""

import itertools
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.catalog_rows import rows_of
from tests.support.workplace import Workplace, database_on, eventually

_numbers = itertools.count()


@pytest.fixture(scope="module")
def place(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(
        tmp_path_factory.mktemp("order"), database_on(redis_server.url), MEDIA_DELETE_ORIGINALS="1"
    )
    place.start("arq")
    yield place
    place.close()


def _fresh(place: Workplace, content: bytes) -> tuple[str, str]:
    source = place.put(f"uploads/{next(_numbers)}.jpg", content)
    return source, str(uuid5(NAMESPACE_URL, f"media:{source}"))


def _state(place: Workplace, upload_id: str) -> str | None:
    rows = rows_of(place.catalog, f"SELECT state FROM uploads WHERE id = '{upload_id}'")
    return rows[0]["state"] if rows else None


def _messages_until(place: Workplace, upload_id: str, mark: str) -> list[dict[str, Any]]:
    """Every message about the upload, once it is where it stays after the event `mark`."""
    ms, n = mark.split("-")
    query = (
        f"SELECT 1 FROM uploads WHERE id = '{upload_id}' AND event_ms = {ms} AND event_n = {n} "
        "AND state IN ('ready', 'failed', 'deleted')"
    )
    eventually(lambda: bool(rows_of(place.catalog, query)))
    place.check()
    place.listen(lambda got: len(got) == place.redis.xlen("media:events"))
    answers = [answer for answer in place.messages if answer["id"] == upload_id]
    seqs = [answer["seq"] for answer in answers]
    assert seqs == sorted(seqs)  # a single worker that is not killed sends them in order
    return answers


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    "kinds",
    ["UU", "UD", "DU", "UDU", "DUD"]
    + [pytest.param(kinds, marks=pytest.mark.campaign) for kinds in ("DD", "UUD", "DUU", "DDU", "UDD")],
)
@pytest.mark.rotating(4)
def test_after_events_while_an_upload_is_processed_the_last_one_counts(place: Workplace, kinds: str) -> None:
    source, upload_id = _fresh(place, pictures.large())
    place.send({"source": source})
    eventually(lambda: _state(place, upload_id) == "processing")

    for number, kind in enumerate(kinds):
        event = {"source": source, "metadata": {"n": number}}
        mark = place.send(event if kind == "U" else {"delete": upload_id})
        time.sleep(0.01)
    answer = _messages_until(place, upload_id, mark)

    assert answer[-1]["type"] == ("upload.ready" if kinds[-1] == "U" else "upload.deleted")
    if kinds[-1] == "U":
        assert answer[-1]["metadata"] == {"n": len(kinds) - 1}
    marks = rows_of(place.catalog, f"SELECT * FROM uploads WHERE id = '{upload_id}'")[0]
    assert _ms(answer[-1]["time"]) >= marks["event_ms"]


def _ms(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp() * 1000


@pytest.mark.fault(23)
@pytest.mark.parametrize("kinds", ["UD", "DU", "UDU", "DUD", "DD"])
@pytest.mark.rotating(2)
def test_of_events_that_come_at_once_the_last_one_counts(place: Workplace, kinds: str) -> None:
    source, upload_id = _fresh(place, pictures.small())
    place.send_all({"source": source} if kind == "U" else {"delete": upload_id} for kind in kinds)
    newest = place.send({"source": source} if kinds[-1] == "U" else {"delete": upload_id})

    answer = _messages_until(place, upload_id, newest)

    assert answer[-1]["type"] == ("upload.ready" if kinds[-1] == "U" else "upload.deleted")


def test_the_same_upload_again_is_ready_again_and_nothing_is_written(place: Workplace) -> None:
    source, upload_id = _fresh(place, pictures.medium(1))
    first = place.send({"source": source})
    [before] = _messages_until(place, upload_id, first)
    stats = {key: (place.root / key).stat() for key in _keys(before)}

    second = place.send({"source": source, "metadata": {"again": True}})
    [_, after] = _messages_until(place, upload_id, second)

    assert (after["type"], after["metadata"]) == ("upload.ready", {"again": True})
    assert after["variants"] == before["variants"]
    assert {key: (place.root / key).stat() for key in _keys(after)} == stats


def test_changed_content_gets_new_names_and_the_old_ones_are_superseded(place: Workplace) -> None:
    source, upload_id = _fresh(place, pictures.medium(2))
    [before] = _messages_until(place, upload_id, place.send({"source": source}))
    place.put(source, pictures.medium(3))

    [_, after] = _messages_until(place, upload_id, place.send({"source": source}))

    assert not set(_keys(before)) & set(_keys(after))
    assert all((place.root / key).is_file() for key in _keys(before))
    superseded = rows_of(place.catalog, "SELECT key FROM variants WHERE superseded_ms IS NOT NULL")
    assert set(_keys(before)) <= {row["key"] for row in superseded}


def test_the_content_that_was_there_before_gets_its_names_back(place: Workplace) -> None:
    source, upload_id = _fresh(place, pictures.small(1))
    [first] = _messages_until(place, upload_id, place.send({"source": source}))
    place.put(source, pictures.small(2))
    _messages_until(place, upload_id, place.send({"source": source}))
    place.put(source, pictures.small(1))

    third = _messages_until(place, upload_id, place.send({"source": source}))[-1]

    assert third["variants"] == first["variants"]


def test_a_delete_removes_the_variants_and_keeps_the_original(place: Workplace) -> None:
    source, upload_id = _fresh(place, pictures.small(4))
    [ready] = _messages_until(place, upload_id, place.send({"source": source, "metadata": {"owner": "42"}}))

    [_, deleted] = _messages_until(place, upload_id, place.send({"delete": upload_id}))

    assert deleted["type"] == "upload.deleted"
    assert not any((place.root / key).exists() for key in _keys(ready))
    assert (place.root / source).exists()


def test_a_delete_with_its_original_moves_it_to_the_trash(place: Workplace) -> None:
    source, upload_id = _fresh(place, pictures.small(5))
    _messages_until(place, upload_id, place.send({"source": source}))

    _messages_until(place, upload_id, place.send({"delete": upload_id, "original": True}))

    assert not (place.root / source).exists()
    [trashed] = _trash(place, source)
    assert trashed.read_bytes() == pictures.small(5)


def test_an_original_that_another_upload_shares_stays(place: Workplace) -> None:
    source, upload_id = _fresh(place, pictures.small(6))
    other = str(uuid5(NAMESPACE_URL, "other"))
    _messages_until(place, upload_id, place.send({"source": source}))
    _messages_until(place, other, place.send({"source": source, "id": other}))

    _messages_until(place, upload_id, place.send({"delete": upload_id, "original": True}))

    assert (place.root / source).exists()


def test_an_original_stays_where_the_operator_has_not_allowed_it(workplace: Workplace) -> None:
    workplace.start("media")
    source, upload_id = _fresh(workplace, pictures.small(7))
    _messages_until(workplace, upload_id, workplace.send({"source": source}))

    [_, answer] = _messages_until(
        workplace, upload_id, workplace.send({"delete": upload_id, "original": True})
    )

    assert (workplace.root / source).exists()
    assert answer["original"] == "kept"


def test_the_delete_of_an_id_never_seen_is_answered(place: Workplace) -> None:
    unknown = str(uuid5(NAMESPACE_URL, "never seen"))

    [answer] = _messages_until(place, unknown, place.send({"delete": unknown}))

    assert (answer["type"], answer["source"]) == ("upload.deleted", None)


def test_an_event_of_a_stream_that_began_anew_is_newer_wherever_its_id_lies(place: Workplace) -> None:
    source, upload_id = _fresh(place, pictures.small(8))
    _messages_until(place, upload_id, place.send({"source": source, "metadata": {"v": 1}}))
    place.redis.delete("media:uploads")  # so that a smaller ID can be written

    again = place.send_raw({"event": json.dumps({"source": source, "metadata": {"v": 2}})}, stream_id="1-1")

    [_, answer] = _messages_until(place, upload_id, again)
    assert (answer["type"], answer["metadata"]) == ("upload.ready", {"v": 2})


def _keys(answer: dict[str, Any]) -> list[str]:
    return [variant["key"] for variant in answer["variants"]]


def _trash(place: Workplace, source: str) -> list[Path]:
    return [path for path in (place.root / "trash").rglob("*") if str(path).endswith(source)]
