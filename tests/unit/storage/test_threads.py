"""Work in threads: nobody leaves before it has ended."""

import asyncio
import operator
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event

import pytest

import storage.blobs.local
from storage.blobs.local import LocalBlobs
from storage.threads import in_thread, in_thread_or_undo, in_thread_within, start_threads


async def cancelled(task: asyncio.Task[object], started: Event, go: Event, times: int = 1) -> bool:
    """Cancel who waits while its thread works; whether it waited for the thread each time."""
    await asyncio.to_thread(started.wait, 10)
    waited = True
    for _ in range(times):
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.05)
        waited = waited and not done
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    return waited


async def test_who_is_cancelled_leaves_only_when_its_thread_has_ended() -> None:
    started, go = Event(), Event()

    def work() -> None:
        started.set()
        go.wait(10)

    task: asyncio.Task[object] = asyncio.create_task(in_thread(work))
    assert await cancelled(task, started, go, times=3)


@pytest.mark.parametrize(("cpus", "threads"), [(1, 8), (16, 20), (64, 32)])
async def test_threads_are_started_once_in_a_loop_and_as_many_as_its_cpus_can_use(
    cpus: int, threads: int
) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        await start_threads(cpus)
    started = set(threading.enumerate()) - before

    assert {await asyncio.to_thread(threading.current_thread)} < started
    assert len(started) == threads


async def test_what_nobody_is_left_to_take_is_undone() -> None:
    started, go = Event(), Event()
    undone: list[object] = []

    def work() -> object:
        started.set()
        go.wait(10)
        return "made"

    task: asyncio.Task[object] = asyncio.create_task(in_thread_or_undo(undone.append, work))
    await cancelled(task, started, go)

    assert undone == ["made"]


@pytest.mark.parametrize("verb", ["open", "stage"])
async def test_a_descriptor_that_nobody_takes_any_more_is_closed(
    local_blobs: LocalBlobs, root: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    (root / "uploads").mkdir()
    (root / "uploads/cat.jpg").write_bytes(b"cat")
    async with local_blobs._stage(1):
        pass
    started, go = Event(), Event()
    inner = {"open": "local.open_file", "stage": "staging.Staging.make"}[verb]
    real = operator.attrgetter(inner)(storage.blobs)

    def slow(*arguments: object) -> object:
        started.set()
        go.wait(10)
        return real(*arguments)

    async def use() -> None:
        async with local_blobs.open("uploads/cat.jpg") if verb == "open" else local_blobs._stage(3):
            pytest.fail("it was cancelled before")

    monkeypatch.setattr(f"storage.blobs.{inner}", slow)
    before = os.listdir("/proc/self/fd")
    task: asyncio.Task[object] = asyncio.create_task(use())
    await cancelled(task, started, go)

    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert not [path for path in (root / "staging").rglob("*") if path.is_file()]


async def test_a_put_that_is_cancelled_twice_keeps_its_descriptor_while_a_thread_uses_it(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = Event(), Event()
    real = os.fsync
    failures: list[OSError] = []

    def slow(fd: int) -> None:
        started.set()
        go.wait(10)
        try:
            real(fd)
        except OSError as error:
            failures.append(error)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"bytes"

    task: asyncio.Task[object] = asyncio.create_task(local_blobs.put("variants/a", chunks()))
    monkeypatch.setattr(os, "fsync", slow)

    assert await cancelled(task, started, go, times=2)
    assert failures == []


def test_a_thread_that_hangs_is_left_alone_and_keeps_no_loop_from_ending() -> None:
    go = Event()

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            await in_thread_within(0.01, go.wait)

    asyncio.run(wait())

    [left] = [thread for thread in threading.enumerate() if thread.name == "left-alone"]
    assert left.daemon
    go.set()  # what it has to say when the loop is gone is lost
    left.join(10)


async def test_a_thread_that_ends_in_time_gives_what_it_has_or_raises() -> None:
    assert await in_thread_within(10, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread_within(10, lambda: 1 // 0)
