"""Work in threads: nobody leaves before it has ended."""

import asyncio
import errno
import operator
import os
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from threading import Event

import pytest

import storage.blobs.local
from storage.blobs.local import LocalBlobs
from storage.errors import NoCatalog
from storage.threads import Grouped, copied, in_thread, in_thread_or_undo, in_thread_within, start_threads


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


# -- calls that share a thread


class GroupsAtWork:
    """Groups of numbers that a thread each works at until it is let go; which there were, in their order."""

    def __init__(self) -> None:
        self.begun: list[list[int]] = []
        self.has_begun = Event()
        self.waits: dict[int, Event] = {}

    def work(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.begun.append([*numbers])
        self.has_begun.set()
        if wait := self.waits.get(numbers[0]):
            wait.wait(10)
        return [ValueError("odd") if number % 2 else -number for number in numbers]

    async def begin(self) -> None:
        """Wait until the first has begun."""
        assert await asyncio.to_thread(self.has_begun.wait, 10)


def asked(grouped: Grouped[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    async def ask(number: int) -> int:
        return await grouped(number)

    return [asyncio.create_task(ask(number)) for number in numbers]


async def test_calls_of_one_moment_share_a_thread_and_each_has_its_own_answer() -> None:
    groups = GroupsAtWork()
    found = await asyncio.gather(*asked(Grouped(groups.work, 3), 2, 3, 4, 6), return_exceptions=True)

    assert groups.begun == [[2, 3, 4], [6]]
    assert (found[0], str(found[1]), found[2:]) == (-2, "odd", [-4, -6])


async def test_calls_of_different_size_go_together_as_far_as_they_fit_and_a_large_one_goes_alone() -> None:
    groups = GroupsAtWork()
    await asyncio.gather(*asked(Grouped(groups.work, 10, size=abs), 4, 6, 2, 30, 8))

    assert groups.begun == [[4, 6], [2], [30], [8]]


async def test_who_calls_while_a_group_is_at_work_waits_for_it_and_is_one_of_the_next() -> None:
    groups, go = GroupsAtWork(), Event()
    groups.waits[2] = go
    grouped = Grouped(groups.work, 9)
    first = asked(grouped, 2)
    await groups.begin()
    others = asked(grouped, 4, 6)
    await asyncio.sleep(0.01)
    begun = [*groups.begun]
    go.set()

    assert await asyncio.gather(*first, *others) == [-2, -4, -6]
    assert (begun, groups.begun) == ([[2]], [[2], [4, 6]])


async def test_where_groups_overlap_one_that_hangs_holds_up_no_later_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups, go = GroupsAtWork(), Event()
    groups.waits[2] = go
    grouped = Grouped(groups.work, 9, overlap=True)
    hanging = asked(grouped, 2)
    await groups.begin()
    assert await asyncio.gather(*asked(grouped, 4, 6)) == [-4, -6]
    monkeypatch.setattr("storage.threads._SLOW_S", 0.0)
    assert await asyncio.gather(*asked(grouped, 8, 10)) == [-8, -10]
    go.set()
    await asyncio.gather(*hanging)

    assert groups.begun == [[2], [4, 6], [8], [10]]


async def test_after_work_that_was_slow_calls_have_threads_of_their_own_until_one_is_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups = GroupsAtWork()
    grouped = Grouped(groups.work, 9, overlap=True)
    monkeypatch.setattr("storage.threads._SLOW_S", -1.0)
    await asyncio.gather(*asked(grouped, 2, 4))
    await asyncio.gather(*asked(grouped, 6, 8))
    monkeypatch.undo()
    await asyncio.gather(*asked(grouped, 10))
    await asyncio.gather(*asked(grouped, 12, 14))

    assert groups.begun == [[2, 4], [6], [8], [10], [12, 14]]


async def test_who_is_cancelled_before_its_group_begins_leaves_at_once() -> None:
    groups, go = GroupsAtWork(), Event()
    groups.waits[2] = go
    grouped = Grouped(groups.work, 9)
    first = asked(grouped, 2)
    await groups.begin()
    leaving, staying = asked(grouped, 4, 6)
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving], timeout=10)
    left = leaving.cancelled()
    go.set()

    assert left
    assert await asyncio.gather(*first, staying) == [-2, -6]
    assert groups.begun == [[2], [6]]


async def test_an_answer_that_nobody_is_left_to_take_is_undone_and_the_others_have_theirs() -> None:
    groups, go, undone = GroupsAtWork(), Event(), list[int]()
    groups.waits[2] = go
    staying, leaving = asked(Grouped(groups.work, 9, undo=undone.append), 2, 4)
    await groups.begin()
    leaving.cancel()
    done, _ = await asyncio.wait([leaving], timeout=0.05)
    go.set()

    assert await staying == -2
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (done, undone) == (set(), [-4])


@pytest.mark.parametrize("overlap", [True, False])
async def test_where_no_thread_can_be_started_all_hear_of_it_and_later_calls_work(
    monkeypatch: pytest.MonkeyPatch, *, overlap: bool
) -> None:
    grouped = Grouped(GroupsAtWork().work, 2, overlap=overlap)

    def refuse(*_args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
    refused = await asyncio.gather(*asked(grouped, 2, 4, 6), return_exceptions=True)
    monkeypatch.undo()

    assert [type(error) for error in refused] == [RuntimeError] * 3
    assert await grouped(8) == -8


async def test_callers_that_are_given_the_same_error_raise_one_each_with_notes_of_their_own() -> None:
    error = OSError(errno.EIO, "broken", "name")
    error.add_note("of all")
    grouped = Grouped[int, int](lambda numbers: [error] * len(numbers), 9)
    first, second = await asyncio.gather(*asked(grouped, 2, 4), return_exceptions=True)
    assert isinstance(first, OSError)
    assert isinstance(second, OSError)
    second.add_note("of one")

    assert first is not second
    assert [(type(one), str(one), one.errno, one.filename) for one in (first, second)] == [
        (OSError, "[Errno 5] broken: 'name'", errno.EIO, "name")
    ] * 2
    assert (first.__notes__, second.__notes__) == (["of all"], ["of all", "of one"])


def test_an_exception_that_makes_its_message_itself_is_copied_as_it_is() -> None:
    error = NoCatalog("sqlite")
    error.__cause__ = ValueError("why")

    copy = copied(error)

    assert (copy is not error, str(copy), copy.__cause__) == (True, str(error), error.__cause__)


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
