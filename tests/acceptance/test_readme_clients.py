"""The README's examples with the clients that apps have: the oldest and the newest of each, and between."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from scripts import readme
from tests.support.clients import (
    NEWEST_IOREDIS,
    NEWEST_REDIS_PY,
    OLDEST_IOREDIS,
    OLDEST_REDIS_PY,
    WITH_SERVICES,
    ioredis,
    redis_py,
)
from tests.support.workplace import Workplace

SOURCE = "uploads/2026/11/cat.jpg"
PICTURE = readme.README.parent / "scripts/pictures/cairn.jpg"
SNIPPETS = re.findall(
    r"<!-- snippet: (\w+)-(python|python-async|node) -->\n```\w+\n(.*?)```\n",
    readme.README.read_text("utf-8"),
    re.DOTALL,
)
# redis-py and ioredis; the suite has the newest here, and the oldest where it tests the README.
CLIENTS = [
    (NEWEST_REDIS_PY, NEWEST_IOREDIS),
    *(
        pytest.param(python, node, marks=pytest.mark.campaign)
        for python, node in [
            (OLDEST_REDIS_PY, OLDEST_IOREDIS),
            ("6.4.0", "5.11.1"),
            ("7.4.1", "6.0.0"),
            ("8.0.1", "6.0.0"),
        ]
    ),
]
_TIMEOUT_S = 60

Running = subprocess.Popen[str]


def test_the_readme_names_the_oldest_and_the_newest_clients_that_run_its_examples() -> None:
    python, node = f"{OLDEST_REDIS_PY} and {NEWEST_REDIS_PY}", f"{OLDEST_IOREDIS} and {NEWEST_IOREDIS}"

    assert f"with redis-py {python} and with ioredis {node}." in readme.README.read_text("utf-8")


@pytest.mark.parametrize(("python", "node"), CLIENTS)
@WITH_SERVICES
def test_an_app_receives_messages_after_a_silence_with_any_client(
    python: str, node: str, live: Workplace, tmp_path: Path
) -> None:
    env = {"PATH": os.environ["PATH"], "REDIS_URL": live.redis_url, "PYTHONPATH": str(redis_py(python))}
    last: Any = live.redis.xrevrange("media:events", count=1)
    env["LAST_ID"] = last[0][0].decode() if last else "0"
    env["NODE_PATH"] = str(ioredis(node))
    live.put(SOURCE, PICTURE.read_bytes())

    with ExitStack() as stack:
        listening = [stack.enter_context(run(script, env)) for script in scripts("receive", tmp_path)]
        await_second_read(live, listening)
        sending = [stack.enter_context(run(script, env)) for script in scripts("send", tmp_path)]

        assert [process.wait(_TIMEOUT_S) for process in sending] == [0] * 3
        lines = [process.stdout.readline() for process in listening if process.stdout]
        for process in listening:
            process.kill()
        assert ["upload.ready" in line for line in lines] == [True] * 3


def scripts(verb: str, folder: Path) -> Iterator[Path]:
    for its_verb, language, code in SNIPPETS:
        if its_verb == verb:
            script = folder / f"{verb}-{language}"
            script.write_text(code)
            yield script


def run(script: Path, env: Mapping[str, str]) -> Running:
    runner = "node" if script.name.endswith("node") else sys.executable
    return subprocess.Popen(
        [runner, str(script)], env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def await_second_read(live: Workplace, listening: list[Running]) -> None:
    """Wait until each has read once in vain, and reads again."""
    reads: Counter[str] = Counter()
    redis: Any = live.redis
    with redis.monitor() as monitor:
        for answer in monitor.listen():
            if str(answer["command"]).lower().startswith("xread ") and "media:events" in answer["command"]:
                reads[answer["client_port"]] += 1
            if sum(count >= 2 for count in reads.values()) == len(listening):
                return
            for process in listening:
                assert process.poll() is None, process.communicate()[1]
