"""A Redis that runs with the files of deploy/redis."""

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from scripts.processes import free_port, launch, stop, tail
from scripts.redis_server import find_executable
from tests.support.deployment import DEPLOY

USERS = DEPLOY / "redis/users.acl"
CONF = DEPLOY / "redis/media.conf"
_START_S = 10.0


def passwords_in(users: Path) -> Mapping[str, str]:
    """The password of each user that a file of users has."""
    return dict(re.findall(r"^user (\w+) on >(\S+) ", users.read_text("utf-8"), re.MULTILINE))


@contextmanager
def deployed_redis(users: Path = USERS, conf: Path = CONF) -> Iterator[Mapping[str, str]]:
    """The URL of each user of a Redis with these files."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "redis.log"
        own = {"--port": port, "--bind": "127.0.0.1", "--dir": folder, "--logfile": log, "--aclfile": users}
        options = [str(word) for option in own.items() for word in option]
        process = launch([str(find_executable().absolute()), str(conf), *options], subprocess.DEVNULL)
        try:
            urls = {
                user: f"redis://{user}:{password}@127.0.0.1:{port}"
                for user, password in passwords_in(users).items()
            }
            _await_answer(urls["default"], log)
            yield urls
        finally:
            stop(process)


def _await_answer(url: str, log: Path) -> None:
    until = time.monotonic() + _START_S
    with redis.Redis.from_url(url) as admin:
        while True:
            try:
                admin.ping()
            except redis.ConnectionError:
                assert time.monotonic() < until, tail(log)
                time.sleep(0.01)
            else:
                return
