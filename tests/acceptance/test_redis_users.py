"""The three users of docs/redis.md: with their lines and no other right they do their work."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from scripts.readme import README
from scripts.redis_server import RedisServer, temporary_redis
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.workplace import Workplace
from worker.queue.rights import attempts

_DONE_WITHOUT = {"info", "time", "xinfo", "config", "client"}
_OF_OTHERS = {
    "acl",
    "auth",
    "flushdb",
    "xread",
    "select",
}  # the test's own, the reader's, and what goes with the URL
_NO_MUST = ("client|setinfo", "client", "config|get", "config")
LINE = re.compile(r"^ACL SETUSER (?P<user>\w+) on >(?P<password>\S+) .*$", re.MULTILINE)


def lines_of_the_docs() -> dict[str, re.Match[str]]:
    text = (README.parent / "docs" / "redis.md").read_text("utf-8")
    return {line["user"]: line for line in LINE.finditer(text)}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with temporary_redis() as own:
        admin: Any = redis.Redis.from_url(own.url)
        for line in lines_of_the_docs().values():
            admin.execute_command(line[0])
        admin.execute_command("ACL LOG RESET")
        admin.close()
        yield own


@pytest.fixture
def urls(server: RedisServer) -> dict[str, str]:
    lines = lines_of_the_docs()
    return {
        user: server.url.replace("//", f"//{user}:{line['password']}@").removesuffix("/0")
        for user, line in lines.items()
    }


@pytest.fixture
def place(server: RedisServer, urls: dict[str, str], migrated: Path, tmp_path: Path) -> Iterator[Workplace]:
    """A workplace whose worker has no more rights than the docs say."""
    workplace = Workplace(tmp_path, server.url, migrated, MEDIA_REDIS_URL=urls["worker"])
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


def test_with_the_lines_of_the_docs_worker_reader_and_app_do_their_work(
    place: Workplace, urls: dict[str, str]
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
    assert not [line for line in worker.log if line["level"] in ("warning", "error")]
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


def test_an_app_may_enqueue_and_is_refused_the_rest_by_name(place: Workplace, urls: dict[str, str]) -> None:
    assert place.run("media", "--burst").returncode == 0
    (place.home / "a.jpg").write_bytes(pictures.small())

    sent = media(place.env(MEDIA_REDIS_URL=urls["app"]), "enqueue", place.home / "a.jpg")
    waited = media(place.env(MEDIA_REDIS_URL=urls["app"]), "enqueue", place.home / "a.jpg", "--wait")

    assert sent.returncode == 0, sent.stderr
    assert waited.returncode == 1
    assert "may not run XREVRANGE" in waited.stderr
