"""A Postgres of one's own: found, started, killed, never left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from scripts import postgres_server as module
from scripts.postgres_server import (
    PostgresNotFoundError,
    PostgresNotStartedError,
    PostgresServer,
    candidates,
    temporary_postgres,
)
from scripts.processes import free_port
from tests.support.postgres import connect, execute, new_database


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that whoever runs Postgres can reach; pytest's own is for the tests' user alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def ask(server: PostgresServer, question: str, database: str = "postgres") -> object:
    connection = await connect(server, database)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@pytest.mark.parametrize("programs", list(candidates()), ids=lambda folder: folder.parent.name)
async def test_each_postgres_of_this_machine_can_be_started(programs: Path) -> None:
    with temporary_postgres(programs) as server:
        assert await ask(server, "SELECT current_user") == module.USER
        folder = await ask(server, "SHOW data_directory")

    assert not Path(str(folder)).exists()
    assert not is_listening(server.port)


async def test_what_was_committed_is_there_after_it_was_stopped_or_killed(
    postgres_server: PostgresServer,
) -> None:
    with temporary_postgres(postgres_server.programs) as server:
        await execute(server, "CREATE TABLE kept AS SELECT 1 AS n")
        port, pid = server.port, server.pid
        for end in (server.stop, server.kill):
            end()
            assert not is_listening(port)
            server.start()
            assert await ask(server, "SELECT n FROM kept") == 1

    assert server.port == port
    assert server.pid != pid


def test_its_files_are_where_they_are_wanted(postgres_server: PostgresServer, open_folder: Path) -> None:
    with temporary_postgres(postgres_server.programs, beneath=open_folder):
        assert list(open_folder.glob("*/data/PG_VERSION"))

    assert list(open_folder.iterdir()) == []


async def test_it_does_not_let_anybody_in_without_its_password(postgres_server: PostgresServer) -> None:
    url = postgres_server.url().replace("+asyncpg", "").replace(postgres_server.password, "guessed")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url)


async def test_a_database_is_a_copy_of_its_template_and_gone_after_the_block(
    postgres_server: PostgresServer,
) -> None:
    async with new_database(postgres_server) as first:
        name = first.rpartition("/")[2]
        await execute(postgres_server, "CREATE TABLE kept AS SELECT 1 AS n", name)
        async with new_database(postgres_server, name) as copy:
            assert await ask(postgres_server, "SELECT n FROM kept", copy.rpartition("/")[2]) == 1

    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await connect(postgres_server, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")
def test_root_does_not_run_it_as_root(postgres_server: PostgresServer) -> None:
    assert Path(f"/proc/{postgres_server.pid}").stat().st_uid != 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent dies")
def test_it_dies_with_a_parent_that_is_killed(open_folder: Path) -> None:
    program = (
        "from scripts.postgres_server import temporary_postgres\n"
        "with temporary_postgres() as server:\n"
        "    print(server.pid, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=-1, stdout=-1, text=True, env={"TMPDIR": str(open_folder)}
    ) as parent:
        assert parent.stdout is not None
        postgres = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()

        ended, _, _ = select.select([postgres], [], [], 5)
        assert ended
    os.close(postgres)


def test_an_error_in_the_block_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt), temporary_postgres() as server:
        raise KeyboardInterrupt

    assert not is_listening(server.port)


def test_one_that_was_killed_meanwhile_is_no_error_at_the_end() -> None:
    with temporary_postgres() as server:
        os.kill(server.pid, signal.SIGKILL)

    assert not is_listening(server.port)


async def test_another_port_is_tried_when_the_chosen_one_was_taken_meanwhile(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([postgres_server.port, free_port()])
    monkeypatch.setattr(module, "free_port", lambda: next(ports))

    with temporary_postgres(postgres_server.programs) as server:
        assert server.port != postgres_server.port
        assert await ask(server, "SELECT 1") == 1


def test_one_that_cannot_be_used_is_passed_over(
    postgres_server: PostgresServer, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = _a_postgres(open_folder, "echo no room >&2; exit 3")
    monkeypatch.setattr(module, "candidates", lambda: [broken, postgres_server.programs])

    with temporary_postgres() as server:
        assert server.programs == postgres_server.programs


def test_without_any_the_message_says_what_to_install_and_why_none_was_used(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = _a_postgres(open_folder, "echo no room >&2; exit 3")
    monkeypatch.setattr(module, "candidates", lambda: [broken])

    with pytest.raises(PostgresNotFoundError, match="apt-get install postgresql") as answer:
        temporary_postgres().__enter__()
    assert "initdb ends with 3" in str(answer.value)
    assert "no room" in str(answer.value)


def test_one_that_ends_at_once_is_reported_with_its_log(open_folder: Path) -> None:
    broken = _a_postgres(open_folder, "echo no room >&2; exit 3")

    with pytest.raises(PostgresNotStartedError, match="no room"), temporary_postgres(broken):
        pass


def _a_postgres(folder: Path, script: str) -> Path:
    program = folder / "initdb"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return folder
