"""Whether `media serve` lives and can work, as probes and `media health --serve` are told it."""

import asyncio
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.commands import MEDIA, Ended
from tests.support.face import FaceProcess, caller_of, new_secret, start_face
from tests.support.redis_urls import by_port
from tests.support.tcp_proxy import TcpProxy
from tests.support.workplace import Workplace, eventually


def health(bind: str, *options: str) -> Ended:
    """`media health --serve`, as it is installed."""
    env = {"PATH": os.environ["PATH"], "MEDIA_ENV_FILE": "", "MEDIA_HTTP_BIND": bind}
    command = [str(MEDIA), "health", "--serve", *options]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)


def readiness(face: FaceProcess) -> int:
    with caller_of(face) as client:
        return client.get("/readyz").status_code


def test_a_server_is_ready_until_it_is_killed(workplace: Workplace) -> None:
    face = start_face(workplace)
    bind = face.url.removeprefix("http://")
    ready, alive = health(bind), health(bind, "--live")
    with caller_of(face) as client:  # whose connection a body after a head would spoil
        heads = [client.head(path).status_code for path in ("/healthz", "/console", "/openapi.json")]
        after = client.get("/healthz")
    face.kill()
    killed = health(bind)

    assert (heads, after.json()["status"]) == ([200] * 3, "ok")
    assert (ready.returncode, ready.stdout, ready.stderr) == (0, "ready\n", "")
    assert (alive.returncode, alive.stdout) == (0, "alive\n")
    assert killed.returncode == 1
    assert killed.stdout.startswith(f"unreachable: no server answers at {bind}, where MEDIA_HTTP_BIND says")


def test_a_server_behind_a_socket_in_a_folder_is_asked_there(workplace: Workplace, tmp_path: Path) -> None:
    asyncio.run(new_secret(f"sqlite+aiosqlite:///{workplace.catalog}"))  # others may reach it: it takes a key
    bind = f"unix:{tmp_path / 'media.sock'}"
    start_face(workplace, MEDIA_HTTP_BIND=bind, ready=False).await_log("http_served")

    assert health(bind, "--live").stdout == "alive\n"


def test_a_server_on_the_catalog_of_an_older_version_says_that_its_migration_is_pending(
    workplace: Workplace,
) -> None:
    with closing(sqlite3.connect(workplace.catalog)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '1003'")
    face = start_face(workplace, ready=False)
    face.await_log("http_waits")
    with caller_of(face) as client:
        answer = client.get("/v1/uploads")

    assert answer.status_code == 503
    assert "schema is 1003, and the migration to" in answer.json()["detail"]
    assert "media migrate" in answer.json()["detail"]


def test_a_server_whose_disk_is_away_says_that_the_storage_is_and_nothing_of_the_catalog(
    workplace: Workplace,
) -> None:
    workplace.start().stop()
    workplace.root.rename(workplace.home / "unmounted")
    face = start_face(workplace, ready=False)
    face.await_log("http_waits")
    with caller_of(face) as client:
        answer = client.get("/v1/uploads")

    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("The storage of this catalog is not there: its disk is away")


def test_a_server_starts_before_all_others_and_works_once_they_are_there(workplace: Workplace) -> None:
    catalog = workplace.catalog.rename(workplace.home / "later.db")
    with closing(TcpProxy(urlsplit(workplace.redis_url).port or 0)) as proxy:
        proxy.refuse()
        url = by_port(workplace.redis_url, proxy.port)
        face = start_face(workplace, ready=False, MEDIA_REDIS_URL=url)
        face.await_log("http_waits")
        ill = health(face.url.removeprefix("http://"))
        catalog.rename(workplace.catalog)
        workplace.start()  # which makes the storage
        proxy.accept()
        eventually(lambda: readiness(face) == 200)

    assert ill.returncode == 1
    assert "catalog: " in ill.stdout
    assert "redis: Redis does not answer" in ill.stdout
    assert face.stop() == 0


def test_an_outage_of_redis_is_told_and_forgotten(workplace: Workplace) -> None:
    with closing(TcpProxy(urlsplit(workplace.redis_url).port or 0)) as proxy:
        face = start_face(workplace, MEDIA_REDIS_URL=by_port(workplace.redis_url, proxy.port))
        proxy.refuse()
        eventually(lambda: readiness(face) == 503)
        proxy.accept()
        eventually(lambda: readiness(face) == 200)

    assert face.stop() == 0
    assert "Traceback" not in face.text


@pytest.mark.parametrize("bind", ["8080", "0.0.0.0", "host:0"])
def test_a_wrong_address_is_a_mistake_in_the_settings(bind: str) -> None:
    ended = health(bind)

    assert ended.returncode == 2
    assert ended.stderr.startswith("Invalid settings:\nMEDIA_HTTP_BIND: must")
