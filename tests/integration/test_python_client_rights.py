"""The rights on Redis that the Python client's README names: with them, and no others, each verb works."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from media_worker_client import MediaClient, MediaError, MediaTimeout, MemoryCursor, Message, Outbox
from scripts.redis_server import RedisServer
from tests.support.listening_app import listening_app
from tests.support.workplace import eventually

PAGE = (Path(__file__).parents[2] / "clients/python/README.md").read_text("utf-8")
RIGHTS = dict(re.findall(r"^\| (.+?) \| (`~.*) \|$", PAGE.partition("## Rights on Redis")[2], re.MULTILINE))
UPLOAD = "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"


def rights_of(verb: str) -> list[str]:
    """All that the row with this verb names, also what is optional."""
    [rights] = [rights for verbs, rights in RIGHTS.items() if verb in verbs]
    return [word.replace("\\|", "|") for code in re.findall("`(.*?)`", rights) for word in code.split()]


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as admin:
        admin.flushdb()
        message = {"type": "upload.ready", "seq": 1, "id": UPLOAD, "source": "uploads/a.jpg"}
        admin.xadd("media:events", {"event": json.dumps(message)})
        admin.set("media:limits", '{"max_bytes": 1}')
        yield admin


def media_with(server: RedisServer, admin: Any, rights: list[str]) -> MediaClient:
    admin.acl_setuser("app", enabled=True, reset=True)
    admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *rights)
    return MediaClient(f"redis://app:secret@127.0.0.1:{server.port}/0")


def hears(media: MediaClient, **options: Any) -> str:
    stop = threading.Event()
    heard: list[Message] = []

    def handle(message: Message) -> None:
        heard.append(message)
        stop.set()

    media.listen(handle, stop=stop, **options)
    return heard[0].type


def test_an_app_that_announces_needs_to_add_alone(server: RedisServer, admin: Any) -> None:
    with media_with(server, admin, rights_of("announce")) as media:
        media.delete(media.replace(media.announce("uploads/a.jpg"), "uploads/b.jpg"))
        assert Outbox(media, lambda: [{"source": "uploads/c.jpg"}]).flush() == 1


@pytest.mark.parametrize("kind", ["group", "cursor"])
@pytest.mark.parametrize("all_of_them", [True, False], ids=["all", "needed"])
def test_a_listener_needs_the_rights_of_its_row(
    server: RedisServer, admin: Any, kind: str, all_of_them: bool
) -> None:
    rights = rights_of(f"with a {kind}")
    needed = [right for right in rights if not right.startswith(("+xinfo", "+xautoclaim", "+xclaim"))]
    options: dict[str, Any] = {"group": "my-app"} if kind == "group" else {"cursor": MemoryCursor()}
    with media_with(server, admin, rights if all_of_them else needed) as media:
        assert hears(media, **options) == "upload.ready"


def test_a_listener_from_now_on_needs_the_rights_of_its_row(server: RedisServer, admin: Any) -> None:
    with media_with(server, admin, rights_of("with neither")) as media, listening_app(media) as app:
        eventually(lambda: admin.info("clients")["blocked_clients"] == 1)
        admin.xadd("media:events", {"event": json.dumps({"type": "upload.ready", "seq": 2, "id": UPLOAD})})
        app.await_count(1)
    poor = [right for right in rights_of("with neither") if not right.startswith("+xinfo")]
    with media_with(server, admin, poor) as media, pytest.raises(NoPermissionError):
        media.listen(print)  # it would take all old messages for new ones

    assert [message.seq for message in app.heard] == [2]


def test_questions_need_the_rights_of_their_rows(server: RedisServer, admin: Any) -> None:
    with media_with(server, admin, rights_of("`status`")) as media:
        with pytest.raises(MediaTimeout):
            media.status(UPLOAD, timeout=0.1)
        with pytest.raises(NoPermissionError):
            media.limits()
    with media_with(server, admin, rights_of("`limits`")) as media:
        assert media.limits() == {"max_bytes": 1}
        admin.delete("media:limits")
        with pytest.raises(MediaError, match="limits_unknown"):
            media.limits()
