"""Connections that hand a whole statement to their thread."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.catalog.connection import Connection, connect


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    opened = connect(str(tmp_path / "some.db"), timeout=1, check_same_thread=False)
    await opened
    yield opened
    await opened.close()


async def test_a_cursor_gives_the_rows_and_the_columns_of_its_statement(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("SELECT ? AS number, 'x' AS letter", (7,))
        rows = await cursor.fetchall()

        assert rows == [(7, "x")]
        assert [column[0] for column in cursor.description or ()] == ["number", "letter"]
        assert await cursor.fetchall() == []


async def test_a_cursor_says_how_many_rows_a_statement_changed(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE things (number INTEGER PRIMARY KEY)")
        await cursor.executemany("INSERT INTO things VALUES (?)", [(1,), (2,), (3,)])
        await cursor.execute("DELETE FROM things WHERE number > ?", (1,))

        assert cursor.rowcount == 2
        assert cursor.description is None


async def test_a_failed_statement_leaves_nothing_open(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        with pytest.raises(sqlite3.OperationalError):
            await cursor.execute("SELECT nonsense")
        await cursor.execute("SELECT 1")

        assert await cursor.fetchall() == [(1,)]


async def test_an_inline_transaction_ends_with_its_commit(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE things (number INTEGER PRIMARY KEY)")
        await cursor.execute("BEGIN IMMEDIATE")
        connection.inline = True
        await cursor.execute("INSERT INTO things VALUES (1)")
        await connection.commit()
        await connection.rollback()
        await cursor.execute("SELECT * FROM things")

        assert not connection.inline
        assert await cursor.fetchall() == [(1,)]


async def test_a_transaction_that_only_reads_begins_and_ends_without_its_thread(
    connection: Connection,
) -> None:
    release = threading.Event()
    held = asyncio.create_task(connection.in_thread(lambda _: release.wait(10)))
    await asyncio.sleep(0)
    begun = connection.begin_to_read()
    was_open = connection.in_transaction
    await connection.commit()
    release.set()

    assert (begun, was_open, connection.in_transaction, await held) == (True, True, False, True)


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_cancelled_read_is_waited_for_at_the_end_of_its_transaction(
    connection: Connection, end: str
) -> None:
    release = threading.Event()
    connection.begin_to_read()
    read = asyncio.create_task(connection.in_thread(lambda _: release.wait(10)))
    await asyncio.sleep(0)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    ending = asyncio.create_task(getattr(connection, end)())
    await asyncio.sleep(0)
    was_over = ending.done()
    release.set()
    await ending

    assert (was_over, connection.in_transaction) == (False, False)


async def test_a_closed_connection_begins_no_transaction(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "some.db"), check_same_thread=False)
    await connection
    await connection.close()

    assert not connection.begin_to_read()


async def test_a_rollback_undoes_what_an_inline_transaction_did(connection: Connection) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE things (number INTEGER PRIMARY KEY)")
        await connection.commit()
        await cursor.execute("BEGIN IMMEDIATE")
        connection.inline = True
        await cursor.execute("INSERT INTO things VALUES (1)")
        await connection.rollback()
        await cursor.execute("SELECT * FROM things")

        assert not connection.inline
        assert await cursor.fetchall() == []


async def test_a_connection_that_a_cancelled_task_has_left_ends_its_thread_and_warns_nobody(
    tmp_path: Path,
) -> None:
    before = set(threading.enumerate())
    await connect(str(tmp_path / "some.db"), check_same_thread=False)
    [thread] = set(threading.enumerate()) - before
    gc.collect()

    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


def test_a_catalog_in_a_file_needs_no_driver_of_postgres(tmp_path: Path) -> None:
    """It costs 49 MB and a quarter of a second, and is an extra."""
    program = """
import asyncio, sys
sys.modules["asyncpg"] = None
from storage.catalog.opening import open_catalog

async def main():
    async with open_catalog(f"sqlite+aiosqlite:///{sys.argv[1]}"):
        print("open")

asyncio.run(main())
"""
    command = [sys.executable, "-c", program, f"{tmp_path}/catalog.db"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])

    assert (ended.stdout, ended.stderr) == ("open\n", "")
