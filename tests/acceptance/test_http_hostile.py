"""Hostile requests: each gets its stated answer, and nothing else happens."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from tests.support.attacked_face import AttackedFace, Reply
from tests.support.attacks import Attack, bodies, callers, forms, paths, tenants, wire
from tests.support.catalog_rows import PostgresRows
from tests.support.clients import WITH_SERVICES
from tests.support.face import caller_of
from tests.support.postgres import create_database
from tests.support.rotation import of_day, today
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import Workplace, database_on

pytestmark = WITH_SERVICES

_TABLES = (paths.ATTACKS, callers.ATTACKS, tenants.ATTACKS, bodies.ATTACKS, forms.ATTACKS, wire.ATTACKS)
ATTACKS: Mapping[str, Attack] = dict(chain.from_iterable(table.items() for table in _TABLES))
WARM_UP = ("list_all", "too_large", "form_of_a_large_file", "json_deep", "filename_dots")
MOST_GROWTH_MIB = 16
FILES, BUCKET = "files", "bucket"
ON_A_BUCKET = {
    "put_through_a_link": "201",  # there are no links
    # SeaweedFS takes no such name, and says no more than that it failed.
    "put_backslashes": "503 storage_unavailable",
    "put_out_of_ones_own_folder_backslashes": "503 storage_unavailable",
}
POOLED = 8  # connections to a bucket and to Postgres that may be opened meanwhile, and stay open


@dataclass(frozen=True)
class Attacked:
    """What came back, and what was there before and after."""

    face: AttackedFace
    replies: Mapping[str, Reply]
    before: Mapping[str, bytes | None]
    descriptors: int
    mib: float

    @property
    def is_on_a_bucket(self) -> bool:
        return isinstance(self.face.place, S3Workplace)

    @property
    def sources(self) -> set[str]:
        """The originals that were taken, as answers say."""
        taken = [reply for reply in self.replies.values() if reply.status == "201"]
        return {json.loads(reply.body)["source"] for reply in taken if b'"source"' in reply.body}


@pytest.fixture(scope="module", params=sorted(of_day((FILES, BUCKET), 1, today())))
def attacked(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    """A server that all attacks were tried on: today with files and SQLite, or with a bucket and Postgres."""
    home, redis_url = tmp_path_factory.mktemp("attacked"), database_on(redis_server.url)
    if request.param == FILES:
        place = Workplace(home, redis_url)
    else:
        place = S3Workplace(home, redis_url, request.getfixturevalue("seaweedfs"))
        place.database = PostgresRows(create_database(request.getfixturevalue("postgres_server"), "attacked"))
    face = AttackedFace(place)
    for name in WARM_UP:
        face.strike(ATTACKS[name])
    before, descriptors, mib = face.tree(), face.await_silence(0), face.memory_mib()
    yield Attacked(
        face, {name: face.strike(each) for name, each in ATTACKS.items()}, before, descriptors, mib
    )
    place.close()


def test_at_least_two_hundred_attacks_are_tried() -> None:
    assert len(ATTACKS) == sum(map(len, _TABLES)) >= 200


def test_each_hostile_request_gets_its_answer(attacked: Attacked) -> None:
    stated = ON_A_BUCKET if attacked.is_on_a_bucket else {}
    expected = {name: stated.get(name, attack.answer) for name, attack in ATTACKS.items()}
    told = {name: f"{reply.status} {reply.code}".strip() for name, reply in attacked.replies.items()}
    wrong = {name: answer for name, answer in told.items() if answer != expected[name]}

    assert told.keys() == expected.keys()
    assert wrong == {}, {name: expected[name] for name in wrong}


def test_nothing_that_is_answered_runs_in_a_browser_or_is_for_pages_of_others(attacked: Attacked) -> None:
    allowing = ("access-control-allow-origin", "x-injected", "set-cookie")
    # A handshake that fails is answered before there is an application.
    answered = {name: reply for name, reply in attacked.replies.items() if not name.startswith("upgrade_")}
    answered = {name: reply for name, reply in answered.items() if reply.status not in ("none", "101")}

    assert [name for name, reply in answered.items() if "x-content-type-options" not in reply.headers] == []
    assert [name for name, reply in answered.items() if "html" in reply.headers.get("content-type", "")] == []
    assert [name for name, reply in answered.items() if reply.headers.keys() & set(allowing)] == []


def test_no_answer_has_a_byte_from_outside_of_the_storage(attacked: Attacked) -> None:
    leaking = [
        name for name, reply in attacked.replies.items() if attacked.face.outside.encode() in reply.whole
    ]

    assert leaking == []


def test_no_answer_to_one_tenant_has_a_byte_of_another(attacked: Attacked) -> None:
    canary = attacked.face.of_bob.encode()
    strangers = [name for name, attack in ATTACKS.items() if not attack.is_of("FULL", "READER", "BOB")]
    leaking = [name for name in strangers if canary in attacked.replies[name].whole]

    assert leaking == []


def test_nothing_was_written_but_the_pictures_that_were_taken(attacked: Attacked) -> None:
    after = attacked.face.tree()

    assert {name: after.get(name) for name in attacked.before} == attacked.before
    assert after.keys() - attacked.before.keys() <= attacked.sources


def test_every_picture_that_was_taken_lies_in_its_tenants_folder(attacked: Attacked) -> None:
    taken = [
        json.loads(reply.body)["source"]
        for name, reply in attacked.replies.items()
        if reply.status == "201" and not ATTACKS[name].is_of("FULL")
    ]

    folders = {tuple(source.split("/")[:2]) for source in taken}

    assert folders == {("uploads", "alice")}
    assert [source for source in taken if ".." in source.split("/")] == []


def test_no_upload_of_a_tenant_was_deleted_retried_or_discarded_by_another(attacked: Attacked) -> None:
    asked: Any = attacked.face.place.redis.xrange("media:uploads")
    told = [json.loads(fields[b"event"]) for _, fields in asked]
    anothers = attacked.face.values["BOB_ID"], attacked.face.values["BOB_FAILED"]

    assert [event for event in told if event.get("delete") or event.get("id") in anothers] == []


def test_no_log_line_and_no_answer_has_a_secret(attacked: Attacked) -> None:
    face = attacked.face
    leaking = [
        name
        for name, reply in attacked.replies.items()
        if any(secret.encode() in reply.whole for secret in face.secrets)
    ]

    assert [secret[:12] for secret in (*face.secrets, *face.signatures) if secret in face.face.text] == []
    assert leaking == []


def test_no_request_crashed_and_no_log_line_is_forged(attacked: Attacked) -> None:
    log = attacked.face.face

    assert log.logged("request_crashed") == []
    assert log.logged("forged") == []
    assert [line for line in log.log if line.get("level") in ("error", "critical")] == []
    assert [line for line in log.lines if not line.startswith("{")] == []


def test_the_server_still_answers_and_holds_nothing_of_what_was_refused(attacked: Attacked) -> None:
    face = attacked.face
    with caller_of(face.face, face.values["ALICE"]) as client:
        answer = client.get(f"/v1/uploads/{face.values['ALICE_ID']}")

    assert answer.json()["state"] == "ready"
    most = attacked.descriptors + (POOLED if attacked.is_on_a_bucket else 0)
    assert face.await_silence(most) <= most
    assert [name for name in face.place.storage.unfinished() if (face.place.root / name).is_file()] == []


def test_memory_does_not_grow_with_what_is_refused(attacked: Attacked) -> None:
    assert attacked.face.memory_mib() - attacked.mib < MOST_GROWTH_MIB
