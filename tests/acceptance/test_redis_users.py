"""The users of deploy/redis: with the rights of the file and no other they do their work."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from scripts.redis_server import OPTIONS
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.deployed_redis import CONF, USERS, deployed_redis, passwords_in
from tests.support.deployment import SNIPPETS
from tests.support.face import caller_of, start_face
from tests.support.spare_host import SpareHost
from tests.support.workplace import Workplace
from worker.queue.rights import attempts

pytestmark = pytest.mark.rotating(4, of="module")

_DONE_WITHOUT = {"info", "time", "xinfo", "config", "client"}
_OF_OTHERS = {
    "acl",
    "auth",
    "flushdb",
    "xread",
    "select",
}  # the test's own, the reader's, and what goes with the URL
_NO_MUST = ("client|setinfo", "client", "config|get", "config")


@pytest.fixture(scope="module")
def urls() -> Iterator[Mapping[str, str]]:
    with deployed_redis() as urls:
        yield urls


@pytest.fixture
def place(urls: Mapping[str, str], migrated: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A workplace whose worker has no more rights than the file says."""
    workplace = Workplace(tmp_path, urls["default"], migrated, MEDIA_REDIS_URL=urls["worker"])
    admin: Any = workplace.redis
    admin.execute_command("ACL LOG RESET")
    yield workplace
    workplace.close()


def refused_by(place: Workplace) -> list[Any]:
    """What the server's own log of refused commands holds, but what clients send without a need."""
    admin: Any = place.redis
    log: Any = admin.execute_command("ACL LOG")
    return [one for one in log if one["object"] not in _NO_MUST]


def run_on(place: Workplace) -> set[str]:
    """The commands that the server has run, without their subcommands."""
    admin: Any = place.redis
    return {name.removeprefix("cmdstat_").partition("|")[0] for name in admin.info("commandstats")}


def tried() -> set[str]:
    """Those that `media doctor` tries."""
    return {one.command.lower().partition(" ")[0] for one in attempts("media:uploads", "media:events")}


@pytest.mark.rotating(1)
def test_with_the_rights_of_the_file_worker_reader_and_app_do_their_work(
    place: Workplace, urls: Mapping[str, str]
) -> None:
    app: redis.Redis = redis.Redis.from_url(urls["app"])
    reader: redis.Redis = redis.Redis.from_url(urls["reader"])
    worker = place.start("media")
    source = place.put("uploads/a.jpg", pictures.small())

    app.xadd("media:uploads", {"event": f'{{"source": "{source}"}}'})
    answer: Any = reader.xread({"media:events": "0"}, block=20_000)

    assert b'"upload.ready"' in answer[0][1][0][1][b"event"]
    worker.await_log("healthy")
    assert place.run("arq", "--check").returncode == 0
    assert worker.stop() == 0  # before the burst, which lasts as long as another enqueues periodic tasks
    assert place.run("arq", "--burst").returncode == 0
    assert refused_by(place) == []
    assert run_on(place) <= tried() | _DONE_WITHOUT | _OF_OTHERS
    loud = [line["event"] for line in worker.log if line["level"] in ("warning", "error")]
    assert set(loud) <= {"slow_statement"}  # of a busy machine
    app.close()
    reader.close()


def test_doctor_and_commands_work_as_the_worker(place: Workplace) -> None:
    assert place.run("media", "--burst").returncode == 0
    place.put("a.jpg", pictures.small())

    doctor = media(place.env(), "doctor", "--json")

    assert doctor.returncode == 0, doctor.stdout
    assert next(one for one in document(doctor) if one["what"] == "Redis")["level"] == "ok"
    for command in (["stats"], ["enqueue", str(place.root / "a.jpg")], ["failed", "retry", "--all"]):
        ended = media(place.env(), *command)
        assert ended.returncode == 0, ended.stderr


@pytest.mark.rotating(1)
def test_an_app_may_enqueue_and_is_refused_the_rest_by_name(
    place: Workplace, urls: Mapping[str, str]
) -> None:
    assert place.run("media", "--burst").returncode == 0
    (place.home / "a.jpg").write_bytes(pictures.small())

    sent = media(place.env(MEDIA_REDIS_URL=urls["app"]), "enqueue", place.home / "a.jpg")
    waited = media(place.env(MEDIA_REDIS_URL=urls["app"]), "enqueue", place.home / "a.jpg", "--wait")

    assert sent.returncode == 0, sent.stderr
    assert waited.returncode == 1
    assert "may not run XREVRANGE" in waited.stderr


def test_a_server_of_http_may_do_all_that_its_routes_do(place: Workplace, urls: Mapping[str, str]) -> None:
    worker = place.start("media")
    place.send({"source": place.put("uploads/broken.jpg", b"broken")})
    place.await_end_of("uploads/broken.jpg")
    face = start_face(place, MEDIA_REDIS_URL=urls["http"])

    with caller_of(face) as client:
        upload = client.get("/v1/failures").json()["items"][0]["id"]
        asked = client.get(f"/v1/uploads/{uuid4()}"), client.get("/v1/stats"), client.get("/readyz")
        page = client.get("/console/system?checks=1")
        done = client.post("/v1/failures/retry", json={"all": True}), client.delete(f"/v1/uploads/{upload}")

    assert [one["object"] for one in refused_by(place)] == []
    assert [answer.status_code for answer in (*asked, *done)] == [404, 200, 200, 202, 202]
    assert asked[1].json()["queue"]["workers"] == 1
    assert "Redis version" in page.text
    assert done[0].json()["queued"] == 1
    assert (face.stop(), worker.stop()) == (0, 0)


def test_doctor_finds_nothing_to_mend_in_a_redis_with_the_options_of_the_file(place: Workplace) -> None:
    assert place.run("media", "--burst").returncode == 0

    found = document(media(place.env(), "doctor", "--json"))

    assert [one for one in found if one["what"].startswith("Redis") and one["level"] != "ok"] == []


def test_the_file_has_the_options_that_tests_and_demo_use() -> None:
    lines = [shlex.split(line) for line in CONF.read_text().splitlines() if not line.startswith("#")]
    given = {f"--{words[0]}": words[1] for words in lines if words}

    assert OPTIONS.items() <= given.items()


@pytest.mark.rotating(1)
def test_nobody_may_do_anything_without_a_password(place: Workplace, urls: Mapping[str, str]) -> None:
    stranger = redis.Redis.from_url(re.sub("//.*@", "//", urls["worker"]))

    with pytest.raises(redis.AuthenticationError), stranger:
        stranger.ping()


def test_the_commands_of_the_page_give_each_user_a_password_of_its_own(tmp_path: Path) -> None:
    host = SpareHost(tmp_path)
    assert host.run("getent group redis || groupadd redis; mkdir -p /etc/redis").returncode == 0

    done = host.run(SNIPPETS["redis"])

    assert done.returncode == 0, done.stderr
    users, conf = host.changed("/etc/redis/users.acl"), host.changed("/etc/redis/redis.conf")
    # A machine with the package has a file of its own there already.
    assert conf.read_text().splitlines()[-1] == "include /etc/redis/media.conf"
    assert users.stat().st_mode & 0o777 == 0o640
    passwords = passwords_in(users)
    assert len(set(passwords.values()) - set(passwords_in(USERS).values())) == 5
    with (
        deployed_redis(users, host.changed("/etc/redis/media.conf")) as urls,
        redis.Redis.from_url(urls["app"]) as app,
    ):
        assert app.xadd("media:uploads", {"event": "{}"})
