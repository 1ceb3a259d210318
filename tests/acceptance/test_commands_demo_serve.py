"""`media demo --serve`: a console to look at, and how all that runs for it ends."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import pictures, processes
from tests.support.clients import WITH_SERVICES
from tests.support.commands import MEDIA, media
from tests.support.ports import free_port
from tests.support.trees import at_work_in, descendants, runs
from tests.support.workplace import eventually

PROGRAMS = {
    "The worker": ["media_worker", "worker"],
    "The server": ["media_worker", "serve"],
    "Redis": ["-server 127.0.0.1:"],
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Of somebody with a folder of one picture, and one of their own for what is temporary."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_bytes(pictures.small())
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp"), "MEDIA_CPUS": "1"}
    return {"PATH": os.environ["PATH"], **home}


@contextmanager
def served(env: dict[str, str], *more: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A demo that serves, and its document."""
    with subprocess.Popen(
        [str(MEDIA), "demo", "photos", "--into", "results", "--serve", "--json", *more],
        env=env,
        cwd=env["HOME"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        try:
            yield demo, json.loads(demo.stdout.readline())
        finally:
            demo.kill()


@WITH_SERVICES
def test_it_serves_this_machine_alone_until_ctrl_c_and_then_leaves_nothing_running(
    env: dict[str, str], tmp_path: Path
) -> None:
    theirs = {"MEDIA_HTTP_BIND": "0.0.0.0:1", "MEDIA_HTTP_ORIGINS": "https://app.example"}
    port = free_port()
    with served({**env, **theirs}, "--port", str(port)) as (demo, answer):
        assert answer["console"] == f"http://127.0.0.1:{port}/console"
        assert [one["status"] for one in answer["pictures"]] == ["ready"]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as visitor:
            assert visitor.get("/v1/uploads").json()["items"][0]["state"] == "ready"
            assert "demo" in visitor.get("/console").raise_for_status().text
            assert visitor.get("/console", headers={"Host": "192.0.2.1:8080"}).status_code == 403
            assert visitor.get("/v1/uploads", headers={"Origin": "https://app.example"}).status_code == 403

            demo.send_signal(signal.SIGINT)
            assert demo.wait(30) == 0

    log = [json.loads(line)["event"] for line in (tmp_path / "results/server.log").read_text().splitlines()]
    assert "http_stopped" in log
    assert "worker_stopped" in (tmp_path / "results/worker.log").read_text()
    assert at_work_in(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@WITH_SERVICES
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.rotating(1)
def test_a_program_that_dies_ends_all_and_is_named_with_the_end_of_its_log(
    env: dict[str, str], name: str
) -> None:
    with served(env) as (demo, answer):
        port = urlsplit(answer["console"]).port
        tree = descendants(demo.pid)
        [victim] = [pid for pid in tree if runs(pid, *PROGRAMS[name])]
        os.kill(victim, signal.SIGKILL)

        assert demo.wait(60) == 1
        assert demo.stderr is not None
        assert f"{name} ended (SIGKILL). The end of its log:" in demo.stderr.read()
    eventually(lambda: not any(processes.lives(pid) for pid in tree), within=10)
    with closing(socket.create_server(("127.0.0.1", port or 0))):
        pass  # nobody listens there any more


def test_a_port_without_serve_is_a_mistake(env: dict[str, str]) -> None:
    ended = media(env, "demo", "photos", "--port", "8080")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--serve" in ended.stderr
