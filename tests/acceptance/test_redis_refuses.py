"""A Redis that refuses: each command reports the refusal with its remedy within seconds, and ends."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from scripts.redis_server import RedisServer, temporary_redis
from tests.support.clients import WITH_SERVICES
from tests.support.commands import Ended, document, media
from tests.support.redis_urls import as_user
from tests.support.workplace import Workplace, eventually

SECRET = "hunter2"
SOON_S = 20.0  # of whole processes, on a busy machine; one that waits for Redis does so for ever


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis with a password for `default`; its user `limited` is each test's own."""
    with temporary_redis() as own:
        yield own


@pytest.fixture(scope="module")
def admin(server: RedisServer) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(as_user(server.url, password=SECRET))
    redis.Redis.from_url(server.url).config_set("requirepass", SECRET)
    yield client
    client.close()


@pytest.fixture
def place(server: RedisServer, admin: Any, migrated: Path, tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path, as_user(server.url, password=SECRET), migrated)
    yield workplace
    workplace.close()


def limited_to(admin: Any, server: RedisServer, rules: str) -> str:
    """The URL of a user with these rights."""
    admin.execute_command(f"ACL SETUSER limited reset on >{SECRET} {rules}")
    return as_user(server.url, "limited", SECRET)


@pytest.fixture(autouse=True, scope="module")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is measured is the command, not the first import of what it is made of."""
    media({"HOME": str(tmp_path_factory.mktemp("home"))}, "--version")


def ended_soon(place: Workplace, url: str, *command: str) -> Ended:
    began = time.monotonic()
    place.settings["MEDIA_REDIS_URL"] = url
    if command[0] == "worker":
        ended = place.run("media")
    elif command[0] == "arq":
        ended = place.run("arq", *command[1:])
    else:
        ended = media(place.env(), *command)
    assert time.monotonic() - began < SOON_S, ended
    assert SECRET not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def reported_by_all(place: Workplace, url: str, *words: str) -> None:
    """Doctor, worker and `arq` print these words, each in its way, and end with 1."""
    doctor = ended_soon(place, url, "doctor", "--json")
    [found] = [one for one in document(doctor) if one["what"] == "Redis"]
    worker = ended_soon(place, url, "worker")
    arq = ended_soon(place, url, "arq")

    assert [doctor.returncode, worker.returncode, arq.returncode] == [1, 1, 1]
    assert found["level"] == "error"
    for answer in (f"{found['detail']} {found['advice']}", worker.stderr, arq.stderr):
        assert all(word in answer for word in words), answer
    assert [len(ended.stderr.splitlines()) for ended in (worker, arq)] == [1, 1]


def test_a_redis_that_needs_a_password_is_reported_as_such(place: Workplace, server: RedisServer) -> None:
    reported_by_all(place, as_user(server.url), "requires a password", "redis://user:password@")


def test_a_right_that_is_missing_is_named(place: Workplace, server: RedisServer, admin: Any) -> None:
    reported_by_all(place, limited_to(admin, server, "~media:* +@all"), "touch the keys arq:*", "~arq:*")


@pytest.mark.parametrize("command", [["stats"], ["enqueue", "a.jpg"], ["failed", "retry", "--all"]])
@pytest.mark.rotating(2)
def test_each_other_command_names_it_too(place: Workplace, server: RedisServer, command: list[str]) -> None:
    assert place.run("media", "--burst").returncode == 0
    (place.home / "a.jpg").write_bytes(b"a picture")

    ended = ended_soon(place, as_user(server.url), *command)

    assert "requires a password" in ended.stderr
    assert ended.returncode == (0 if command == ["stats"] else 1)


def test_the_health_check_names_it_too(place: Workplace, server: RedisServer) -> None:
    ended = ended_soon(place, as_user(server.url), "arq", "--check")

    assert ended.returncode == 1
    assert "requires a password" in ended.stderr


@WITH_SERVICES
def test_a_worker_that_loses_a_right_says_which_is_red_and_goes_on_when_it_has_it_again(
    place: Workplace, server: RedisServer, admin: Any
) -> None:
    url = limited_to(admin, server, "~* +@all")
    worker = place.start("media", MEDIA_REDIS_URL=url)
    worker.await_log("healthy")
    admin.execute_command("ACL SETUSER limited resetkeys ~media:*")

    eventually(lambda: any("~arq:*" in line["reason"] for line in worker.logged("redis_refuses")))
    checked = place.run("arq", "--check", MEDIA_REDIS_URL=url)
    admin.execute_command("ACL SETUSER limited ~arq:*")
    eventually(lambda: place.run("arq", "--check", MEDIA_REDIS_URL=url).returncode == 0)

    assert checked.returncode == 1
    assert worker.stop() == 0


def test_a_worker_whose_redis_loses_its_primary_waits_at_start_and_at_work_and_goes_on(
    place: Workplace, server: RedisServer, admin: Any
) -> None:
    def lose_the_primary() -> None:
        admin.config_set("replica-serve-stale-data", "no")
        admin.replicaof("127.0.0.1", "1")

    lose_the_primary()
    worker = place.start("media", ready=False)
    eventually(lambda: any("primary" in line["reason"] for line in worker.logged("redis_refuses")))
    admin.replicaof("NO", "ONE")
    worker.await_log("healthy")
    lose_the_primary()
    eventually(lambda: len(worker.logged("redis_refuses")) > 1)
    admin.replicaof("NO", "ONE")
    eventually(lambda: place.run("arq", "--check").returncode == 0)

    assert worker.stop() == 0
