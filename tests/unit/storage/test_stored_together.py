"""What several store at the same moment: durable together, visible together, and each with its own errors."""

import asyncio
import ctypes
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from storage.blobs import syscalls, whole_flush
from storage.blobs.local import LocalBlobs, open_local
from storage.blobs.whole_flush import WholeFlush
from storage.errors import BlobRefused, BlobsUnavailable, KeyRefused, StorageFull
from tests.support.blobs import listed

Noted = list[tuple[str, str]]
PAIRS = [[(f"variants/{folder}/{name}", b"x" * 5000) for name in "ab"] for folder in ("1", "2", "3")]


async def stored(blobs: LocalBlobs, pairs: Sequence[Sequence[tuple[str, bytes]]] = PAIRS) -> list[Any]:
    """What each of several callers gets that store at the same moment: nothing, or an error."""
    return await asyncio.gather(*map(blobs.store, pairs), return_exceptions=True)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file system may be flushed as a whole, and nobody else has written anything."""
    monkeypatch.setattr(whole_flush, "kind_of", lambda _device: "ext4")
    monkeypatch.setattr(whole_flush, "_dirty_bytes", lambda: 0)


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file system may be flushed as a whole."""
    monkeypatch.setattr(whole_flush, "kind_of", lambda _device: "xfs")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """The real calls that write, name and flush, each noted with the name of what it was about."""
    noted: Noted = []

    def note(owner: Any, call: str, name_of: Callable[..., str]) -> None:
        real = getattr(owner, call)

        def noting(*args: Any, **more: Any) -> Any:
            noted.append((call, name_of(*args)))
            return real(*args, **more)

        monkeypatch.setattr(owner, call, noting)

    def opened(fd: int, *_rest: object) -> str:
        return Path(os.readlink(f"/proc/self/fd/{fd}")).name

    note(os, "write", opened)
    note(os, "fsync", opened)
    note(os, "mkdir", lambda name, *_: name)
    note(os, "rename", lambda _name, to: to)
    note(syscalls, "sync_file_system", lambda _fd: "")
    return noted


def kinds(calls: Noted) -> list[str]:
    """Which calls there were, those of one kind in a row told once."""
    found = [kind for kind, _ in calls]
    return [kind for n, kind in enumerate(found) if n == 0 or found[n - 1] != kind]


# -- the order


@pytest.mark.usefixtures("cheap")
async def test_what_several_store_is_durable_before_any_of_it_is_visible_and_once_more_after(
    local_blobs: LocalBlobs, calls: Noted
) -> None:
    await local_blobs.prepare()
    calls.clear()

    assert await stored(local_blobs) == [None] * 3

    flush = ["sync_file_system", "fsync"]
    assert kinds(calls) == ["write", "mkdir", *flush, "rename", *flush]
    assert [kind for kind, _ in calls].count("fsync") == 2
    assert [kind for kind, _ in calls].count("rename") == 6


@pytest.mark.usefixtures("dear")
async def test_without_such_a_flush_each_file_and_each_folder_is_flushed_before_it_is_used(
    local_blobs: LocalBlobs, calls: Noted
) -> None:
    await local_blobs.prepare()
    calls.clear()

    await stored(local_blobs)

    assert kinds(calls) == ["write", "fsync", "mkdir", "fsync", "rename", "fsync", "rename", "fsync"]
    first = calls.index(("rename", "a"))
    flushed = [name for kind, name in calls[:first] if kind == "fsync"]
    assert len(flushed) == 6 + 2
    assert flushed[-2:] == ["media", "variants"]
    renamed = [name for kind, name in calls[first:] if kind == "fsync"]
    assert sorted(renamed) == ["1", "1", "2", "2", "3", "3"]


@pytest.mark.usefixtures("cheap")
async def test_who_stores_alone_flushes_no_file_system_unless_somebody_has_stored_just_before(
    local_blobs: LocalBlobs, calls: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for pause in (0.0, 0.2, 0.05, 0.2):
        now += pause
        calls.clear()
        await local_blobs.store(PAIRS[0])
        found.append("sync_file_system" in kinds(calls))

    assert found == [False, False, True, False]


def slow_renames(monkeypatch: pytest.MonkeyPatch) -> tuple[Event, Event]:
    """Have each rename say that it has started, and wait until it may go."""
    started, go = Event(), Event()
    real = os.rename

    def slow(*args: Any, **more: Any) -> None:
        started.set()
        go.wait(10)
        real(*args, **more)

    monkeypatch.setattr(os, "rename", slow)
    return started, go


@pytest.mark.usefixtures("cheap")
async def test_who_comes_while_others_are_stored_goes_with_the_next_ones(
    local_blobs: LocalBlobs, calls: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = slow_renames(monkeypatch)
    first = asyncio.create_task(local_blobs.store(PAIRS[0]))
    await asyncio.to_thread(started.wait, 10)
    others = [asyncio.create_task(local_blobs.store(pair)) for pair in PAIRS[1:]]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, *others)

    assert [kind for kind, _ in calls].count("sync_file_system") == 2


@pytest.mark.usefixtures("cheap")
async def test_a_file_system_is_flushed_through_a_file_that_nobody_else_asks_of_lost_writes(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, int]] = []

    def ask(fd: int) -> None:
        status = os.fstat(fd)
        asked.append((stat.S_ISREG(status.st_mode), status.st_ino))

    monkeypatch.setattr(syscalls, "sync_file_system", ask)
    await stored(local_blobs)
    await stored(local_blobs)

    assert [is_file for is_file, _ in asked] == [True] * 4
    assert len({*asked}) == 2


@pytest.mark.usefixtures("cheap")
async def test_however_many_files_each_has_few_are_open_at_once(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []
    real = syscalls.sync_file_system

    def count(fd: int) -> None:
        numbers.append(len(os.listdir("/proc/self/fd")))
        real(fd)

    await local_blobs.prepare()
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(syscalls, "sync_file_system", count)
    many = [[(f"variants/{n}/{m}/x", b"x") for m in range(16)] for n in range(16)]

    assert await stored(local_blobs, many) == [None] * 16
    assert max(numbers) - before <= 3 * 48 + 4


# -- one's errors are one's own


def _failing_at(patch: pytest.MonkeyPatch, call: str, number: int, is_meant: Callable[..., bool]) -> None:
    real = getattr(os, call)

    def fail(*args: Any, **more: Any) -> Any:
        if is_meant(*args):
            raise OSError(number, os.strerror(number))
        return real(*args, **more)

    patch.setattr(os, call, fail)


FAULTS: dict[str, tuple[str, int, Callable[..., bool]]] = {
    "no room for its bytes": ("write", errno.ENOSPC, lambda _fd, content: content[:1] == b"2"),
    "over quota at its folder": ("mkdir", errno.EDQUOT, lambda name, *_: name == "2"),
    "its folder cannot be written": ("mkdir", errno.EACCES, lambda name, *_: name == "2"),
    "its name cannot be given": ("rename", errno.EIO, lambda _name, to: to == "b2"),
}


@pytest.mark.parametrize("flush", ["cheap", "dear"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_what_fails_for_one_keeps_no_other_from_its_names(
    local_blobs: LocalBlobs,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    flush: str,
    fault: tuple[str, int, Callable[..., bool]],
) -> None:
    request.getfixturevalue(flush)
    _failing_at(monkeypatch, *fault)
    pairs = [[(f"variants/{n}/{name}{n}", n.encode()) for name in "ab"] for n in "123"]
    first, second, third = await stored(local_blobs, pairs)

    assert (first, third) == (None, None)
    assert isinstance(second, BlobsUnavailable)
    assert isinstance(second, StorageFull) == (fault[1] in (errno.ENOSPC, errno.EDQUOT))
    assert {"variants/1/a1", "variants/1/b1", "variants/3/a3", "variants/3/b3"} <= {
        *await listed(local_blobs, "variants")
    }
    assert await listed(local_blobs, "staging") == []


@pytest.mark.usefixtures("cheap")
async def test_a_key_that_is_refused_and_a_name_that_a_folder_has_are_their_callers_errors(
    local_blobs: LocalBlobs, root: Path
) -> None:
    (root / "variants/taken").mkdir(parents=True)
    keys = ("variants/../a", "variants/taken", "variants/good")
    refused, taken, good = await stored(local_blobs, [[(key, b"x")] for key in keys])

    assert isinstance(refused, KeyRefused)
    assert isinstance(taken, BlobRefused | BlobsUnavailable)
    assert good is None
    assert await listed(local_blobs, "variants") == ["variants/good"]


def _failing_flush(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the flush of that number of a whole file system fail, and no other."""
    flushes = iter(range(1, 100))
    real = syscalls.sync_file_system

    def flush(fd: int) -> None:
        if next(flushes) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    patch.setattr(syscalls, "sync_file_system", flush)


@pytest.mark.usefixtures("cheap")
async def test_where_the_flush_of_what_was_written_fails_each_file_says_whether_it_is_the_one(
    local_blobs: LocalBlobs, calls: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing_flush(monkeypatch, 1)
    await local_blobs.prepare()
    calls.clear()
    assert await stored(local_blobs) == [None] * 3

    assert [kind for kind, _ in calls].count("fsync") == 6 + 2 + 6


@pytest.mark.usefixtures("cheap")
async def test_where_the_flush_of_the_names_fails_nobody_has_stored_anything(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing_flush(monkeypatch, 2)

    assert [type(one) for one in await stored(local_blobs)] == [BlobsUnavailable] * 3
    assert await stored(local_blobs) == [None] * 3


@pytest.mark.usefixtures("dear")
@pytest.mark.parametrize("folder", ["variants", "2"])
async def test_where_the_names_in_one_folder_cannot_be_flushed_those_in_others_may_be_lost_too(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    def is_folder(fd: int) -> bool:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        return path.is_dir() and path.name == folder

    with monkeypatch.context() as patch:
        _failing_at(patch, "fsync", errno.EIO, is_folder)
        found = await stored(local_blobs)

    assert [type(one) for one in found] == [BlobsUnavailable] * 3
    assert await stored(local_blobs) == [None] * 3


@pytest.mark.parametrize("flush", ["cheap", "dear"])
async def test_where_writing_is_refused_as_it_begins_nothing_of_its_caller_gets_a_name(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, flush: str
) -> None:
    request.getfixturevalue(flush)

    def refuse(fd: int, *_rest: int) -> int:
        """Fail for the second file of the second caller, as the C library does."""
        ctypes.set_errno(errno.EIO)
        return -1 if os.pread(fd, 5, 0) == b"2/b" else 0

    monkeypatch.setattr(syscalls, "_sync_file_range", lambda: refuse)
    pairs = [[(f"variants/{n}/{name}", f"{n}/{name}".encode()) for name in "ab"] for n in "123"]
    found = await stored(local_blobs, pairs)

    assert [type(one) for one in found] == [type(None), BlobsUnavailable, type(None)]
    assert len(await listed(local_blobs, "variants")) == 4


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ESPIPE, errno.ENOSYS])
async def test_where_writing_cannot_be_begun_ahead_it_is_done_when_it_is_waited_for(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_args: int) -> int:
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(syscalls, "_sync_file_range", lambda: refuse)

    assert await stored(local_blobs) == [None] * 3


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("callers", [1, 3])
async def test_a_file_of_which_ext4_has_dropped_the_bytes_gets_no_name(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, callers: int
) -> None:
    real = os.write

    def write(fd: int, content: bytes) -> int:
        if bytes(content[:1]) != b"1":
            return real(fd, content)
        os.ftruncate(fd, len(content))  # a hole, as it is left
        return len(content)

    monkeypatch.setattr(os, "write", write)
    pairs = [[(f"variants/{n}/{name}", n.encode() * 5000) for name in "ab"] for n in "123"[:callers]]
    found = await stored(local_blobs, pairs)

    assert [type(one) for one in found] == [BlobsUnavailable, *[type(None)] * (callers - 1)]
    assert len(await listed(local_blobs, "variants")) == 2 * (callers - 1)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("callers", [1, 3])
async def test_where_ext4_takes_no_change_after_the_flush_of_the_names_nobody_has_stored_anything(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, callers: int
) -> None:
    with monkeypatch.context() as patch:
        _failing_at(patch, "removexattr", errno.EROFS, lambda *_: True)
        found = await stored(local_blobs, PAIRS[:callers])

    assert [type(one) for one in found] == [BlobsUnavailable] * callers
    assert await stored(local_blobs) == [None] * 3


@pytest.mark.usefixtures("cheap")
async def test_a_folder_that_is_tidied_away_meanwhile_is_made_again(
    local_blobs: LocalBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = syscalls.sync_file_system

    def tidied(fd: int) -> None:
        real(fd)
        if not any((root / "variants/2").iterdir()):
            (root / "variants/2").rmdir()

    monkeypatch.setattr(syscalls, "sync_file_system", tidied)

    assert await stored(local_blobs) == [None] * 3
    assert len(await listed(local_blobs, "variants")) == 6


@pytest.mark.usefixtures("cheap")
async def test_on_another_volume_folders_are_flushed_by_themselves(
    local_blobs: LocalBlobs, root: Path, volume: Path, calls: Noted
) -> None:
    (volume / "variants").mkdir()
    (root / "variants").symlink_to(volume / "variants")
    assert await stored(local_blobs) == [None] * 3

    flushed = [name for kind, name in calls if kind == "fsync"]
    assert {"1", "2", "3", "variants"} <= {*flushed}
    assert len(list((volume / "variants").glob("?/*"))) == 6


# -- who leaves, and who is killed


@pytest.mark.usefixtures("cheap")
async def test_who_is_cancelled_waits_until_its_files_are_let_go_and_takes_none_of_the_others_along(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = slow_renames(monkeypatch)
    tasks = [asyncio.create_task(local_blobs.store(pair)) for pair in PAIRS]
    await asyncio.to_thread(started.wait, 10)
    tasks[1].cancel()
    await asyncio.wait(tasks, timeout=0.05)
    waited = not any(task.done() for task in tasks)
    go.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert waited
    assert [type(one) for one in ended] == [type(None), asyncio.CancelledError, type(None)]
    assert len(await listed(local_blobs, "variants")) == 6


KILLED = """
import asyncio, os, sys
from pathlib import Path
from storage.blobs import syscalls, whole_flush
from storage.blobs.local import open_local
from tests.unit.storage.test_stored_together import PAIRS, stored

whole_flush.kind_of = lambda _device: sys.argv[2]
whole_flush._dirty_bytes = lambda: 0
CALLS = [(os, name) for name in ("open", "write", "fchmod", "fsync", "mkdir", "rename", "close")]

def dies_at(step):
    def counted(real):
        def call(*args, **more):
            nonlocal step
            step -= 1
            if step == 0:
                os._exit(137)
            return real(*args, **more)
        return call
    for owner, name in [*CALLS, (syscalls, "sync_file_system")]:
        setattr(owner, name, counted(getattr(owner, name)))

async def store(root, step):
    async with open_local(root, create=True) as blobs:
        await blobs.prepare()
        dies_at(step)
        await stored(blobs, PAIRS[:2])
        os._exit(0)

for step in range(1, 1000):
    child = os.fork()
    if not child:
        asyncio.run(store(Path(sys.argv[1]) / str(step), step))
    if os.waitpid(child, 0)[1] == 0:
        break
print(step)
"""


def killed_at_each(folder: Path, kind: str) -> int:
    """Die at each step, in a folder of its own; returns how many there were, and one more."""
    command = [sys.executable, "-c", KILLED, str(folder), kind]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_killed_between_any_two_steps_they_leave_whole_files_and_what_the_next_start_removes(
    tmp_path: Path, kind: str
) -> None:
    steps = killed_at_each(tmp_path, kind)

    assert steps > 30
    for step in range(1, steps + 1):
        async with open_local(tmp_path / str(step), create=False) as blobs:
            await blobs.prepare()
            found = await listed(blobs, "variants")
            assert [len(await blobs.get(key)) for key in found] == [5000] * len(found)
            assert await listed(blobs, "staging") == []
    assert len(found) == 4


# -- when a file system is flushed as a whole


@pytest.mark.usefixtures("dear")
async def test_where_it_is_never_of_use_nobody_waits_for_others(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(local_blobs)
    together = asyncio.Barrier(2)
    loop = asyncio.get_running_loop()
    real = os.rename

    def meet(*args: Any, **more: Any) -> None:
        asyncio.run_coroutine_threadsafe(together.wait(), loop).result(10)
        real(*args, **more)

    monkeypatch.setattr(os, "rename", meet)
    one, other = [[(f"variants/{name}", b"x")] for name in "cd"]

    assert await stored(local_blobs, [one, other]) == [None, None]


@pytest.mark.usefixtures("cheap")
def test_while_others_have_much_to_write_or_after_it_was_slow_it_is_not_done_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    whole, slow = WholeFlush(), WholeFlush()
    monkeypatch.setattr(whole_flush, "_dirty_bytes", lambda: 20 << 20)
    assert whole.may_flush(1, written=5 << 20)
    assert not whole.may_flush(1, written=1 << 20)

    def takes_a_second(_fd: int) -> None:
        nonlocal now
        now += 1

    monkeypatch.setattr(syscalls, "sync_file_system", takes_a_second)
    slow.flush(0)
    begun = [whole.is_worth_trying, slow.is_worth_trying]
    now += 2
    assert (begun, [whole.is_worth_trying, slow.is_worth_trying]) == ([True, False], [True, False])
    now += 60
    assert slow.may_flush(1, written=5 << 20)


@pytest.mark.parametrize(
    ("release", "fits"), [("5.7.19-generic", False), ("5.8.0", True), ("6.18.44-fc", True)]
)
@pytest.mark.usefixtures("cheap")
def test_a_linux_that_tells_nobody_of_failed_writes_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, release: str, fits: bool
) -> None:
    uname = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*uname[:2], release, *uname[3:])))

    assert WholeFlush().may_flush(1, written=0) is fits


def test_a_file_system_is_known_by_its_device(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n31 22 0:45 / /srv rw - nfs4 a:/b rw\n")

    kinds = [whole_flush.kind_of(os.makedev(*number), table) for number in ((254, 0), (0, 45), (1, 1))]
    assert kinds == ["ext4", "nfs4", None]
