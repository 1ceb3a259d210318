"""Blobs as files: what they promise beyond the contract, in a root that others write to as well."""

import asyncio
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from storage.blobs import Existence
from storage.blobs.local import LocalBlobs, open_local
from storage.blobs.staging import Staged
from storage.errors import (
    BlobForbidden,
    BlobNotFound,
    BlobRefused,
    BlobsUnavailable,
    KeyRefused,
    RootMismatch,
    StorageFull,
)
from storage.keys import MAX_BYTES, shown
from tests.support.blobs import chunks, info_of, is_there, listed, stat_of

SECRET = b"what lies outside the root"


async def opened(blobs: LocalBlobs, key: str) -> None:
    async with blobs.open(key):
        pass


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


@pytest.fixture
def uploads(root: Path, local_blobs: LocalBlobs) -> Path:
    folder = root / "uploads"
    folder.mkdir()
    return folder


# -- what is no regular file below the root

READS: dict[str, Callable[[LocalBlobs, str], Awaitable[object]]] = {
    "open": opened,
    "get": lambda blobs, key: blobs.get(key),
}
THROUGH: dict[str, Callable[[LocalBlobs, str], Awaitable[object]]] = {
    **READS,
    "put": lambda blobs, key: blobs.put(key, chunks(b"x")),
    "delete": lambda blobs, key: blobs.delete(key),
    "move": lambda blobs, key: blobs.move(key, "trash/a"),
    "move to": lambda blobs, key: blobs.move("uploads/mine", key),
    "list": listed,
}


@pytest.mark.parametrize("verb", READS.values(), ids=READS.keys())
async def test_a_link_under_an_uploads_name_is_not_followed(
    local_blobs: LocalBlobs,
    uploads: Path,
    outside: Path,
    verb: Callable[[LocalBlobs, str], Awaitable[object]],
) -> None:
    (uploads / "link").symlink_to(outside / "secret")

    with pytest.raises(BlobRefused, match="uploads/link"):
        await verb(local_blobs, "uploads/link")


@pytest.mark.parametrize("verb", THROUGH.values(), ids=THROUGH.keys())
async def test_a_link_in_place_of_a_folder_is_not_entered(
    local_blobs: LocalBlobs,
    uploads: Path,
    outside: Path,
    verb: Callable[[LocalBlobs, str], Awaitable[object]],
) -> None:
    (uploads / "mine").write_bytes(b"mine")
    (uploads / "folder").symlink_to(outside)

    with pytest.raises(BlobRefused):
        await verb(local_blobs, "uploads/folder/secret")

    assert [(file.name, file.read_bytes()) for file in outside.iterdir()] == [("secret", SECRET)]
    assert (uploads / "mine").read_bytes() == b"mine"


async def test_putting_and_moving_onto_a_link_replace_the_link_and_not_its_target(
    local_blobs: LocalBlobs, uploads: Path, outside: Path
) -> None:
    for name in ("put", "moved"):
        (uploads / name).symlink_to(outside / "secret")
    await local_blobs.put("uploads/put", chunks(b"new"))
    await local_blobs.put("uploads/other", chunks(b"new"))
    await local_blobs.move("uploads/other", "uploads/moved")

    assert [(uploads / name).is_symlink() for name in ("put", "moved")] == [False, False]
    assert (outside / "secret").read_bytes() == SECRET


async def test_deleting_a_link_removes_the_link_and_not_its_target(
    local_blobs: LocalBlobs, uploads: Path, outside: Path
) -> None:
    (uploads / "link").symlink_to(outside / "secret")
    await local_blobs.delete("uploads/link")

    assert list(uploads.iterdir()) == []
    assert (outside / "secret").read_bytes() == SECRET


async def test_a_pipe_under_an_uploads_name_hangs_nobody(local_blobs: LocalBlobs, uploads: Path) -> None:
    os.mkfifo(uploads / "pipe")

    for verb in READS.values():
        with pytest.raises(BlobRefused, match="not a regular file"):
            await asyncio.wait_for(verb(local_blobs, "uploads/pipe"), 5)


async def test_a_socket_and_a_folder_are_refused_too(local_blobs: LocalBlobs, uploads: Path) -> None:
    (uploads / "folder").mkdir()
    os.mknod(uploads / "socket", 0o600 | stat.S_IFSOCK)

    for name in ("folder", "socket"):
        for verb in READS.values():
            with pytest.raises(BlobRefused):
                await verb(local_blobs, f"uploads/{name}")


async def test_what_is_no_regular_file_has_no_stamp(
    local_blobs: LocalBlobs, uploads: Path, outside: Path
) -> None:
    os.mkfifo(uploads / "pipe")
    (uploads / "folder").mkdir()
    (uploads / "link").symlink_to(outside / "secret")
    (uploads / "way").symlink_to(outside)

    for name in ("pipe", "folder", "link", "way/secret"):
        with pytest.raises(BlobRefused):
            await local_blobs.stamp(f"uploads/{name}")


async def test_of_several_that_are_opened_at_once_each_has_its_own_file_or_error(
    local_blobs: LocalBlobs, uploads: Path
) -> None:
    (uploads / "folder").mkdir()
    for name in ("a", "folder/b"):
        (uploads / name).write_bytes(name.encode())
    keys = ("uploads/a", "uploads/folder", "uploads/folder/none", "uploads/../a", "uploads/folder/b")
    found = await asyncio.gather(*map(local_blobs.get, keys), return_exceptions=True)

    assert [type(one) for one in found] == [bytes, BlobRefused, BlobNotFound, KeyRefused, bytes]
    assert (found[0], found[-1]) == (b"a", b"folder/b")


async def test_folders_are_opened_once_for_several_files(
    local_blobs: LocalBlobs, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (uploads / "folder").mkdir()
    for name in "abc":
        (uploads / "folder" / name).write_bytes(b"x")
    await local_blobs.enter("uploads")  # for the first time
    names: list[str] = []
    real = os.open

    def noted(name: Any, *args: Any, **more: Any) -> int:
        names.append(str(name))
        return real(name, *args, **more)

    monkeypatch.setattr(os, "open", noted)
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(opened(local_blobs, f"uploads/folder/{name}"))

    assert names == ["uploads", "folder", "a", "b", "c"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
async def test_a_device_is_refused(local_blobs: LocalBlobs, uploads: Path) -> None:
    try:
        os.mknod(uploads / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("devices cannot be made here")

    with pytest.raises((BlobRefused, BlobsUnavailable)):
        await local_blobs.get("uploads/zero")


async def test_a_folder_is_not_moved_with_all_that_is_in_it(local_blobs: LocalBlobs, uploads: Path) -> None:
    await local_blobs.put("uploads/2026/somebody-elses.jpg", chunks(b"kept"))
    with pytest.raises(BlobRefused, match="uploads/2026 is not a regular file"):
        await local_blobs.move("uploads/2026", "trash/plan/uploads/2026")

    assert await local_blobs.get("uploads/2026/somebody-elses.jpg") == b"kept"


async def test_a_folder_is_not_deleted(local_blobs: LocalBlobs, uploads: Path) -> None:
    (uploads / "folder").mkdir()
    with pytest.raises(BlobRefused):
        await local_blobs.delete("uploads/folder")

    assert (uploads / "folder").is_dir()


async def test_whether_a_link_is_there_is_unknown_so_that_nothing_is_deleted_for_it(
    local_blobs: LocalBlobs, uploads: Path, outside: Path
) -> None:
    (uploads / "link").symlink_to(outside / "secret")
    (uploads / "folder").symlink_to(outside)

    assert await stat_of(local_blobs, "uploads/link") is Existence.UNKNOWN
    assert await stat_of(local_blobs, "uploads/folder/secret") is Existence.UNKNOWN
    looked = await local_blobs.stat(["uploads/link", "uploads/folder/secret"])
    assert set(looked.values()) == {Existence.UNKNOWN}


async def test_a_list_passes_over_links_pipes_and_names_that_are_no_keys(
    local_blobs: LocalBlobs, uploads: Path, outside: Path
) -> None:
    (uploads / "link").symlink_to(outside / "secret")
    (uploads / "folder").symlink_to(outside)
    os.mkfifo(uploads / "pipe")
    for name in (b"line\nbreak", b"\xff\xfe not UTF-8", b"cat.jpg"):
        Path(os.fsdecode(bytes(uploads) + b"/" + name)).write_bytes(b"x")

    assert await listed(local_blobs, "uploads") == ["uploads/cat.jpg"]


async def test_a_list_names_what_it_passes_over_because_no_key_can_have_its_name(
    local_blobs: LocalBlobs, uploads: Path
) -> None:
    (uploads / "2026").mkdir()
    for name in (b"2026/caf\xe9.jpg", b"a\nb.jpg", b"del\x7f.jpg", b"cat.jpg", b"2026/dog.jpg"):
        Path(os.fsdecode(bytes(uploads) + b"/" + name)).write_bytes(b"x")
    Path(os.fsdecode(bytes(uploads) + b"/b\xff")).mkdir()
    met: list[str] = []
    found = await listed(local_blobs, "uploads", on_misnamed=met.append)
    infos = [info.key async for info in local_blobs.list_infos("uploads")]

    assert found == infos == ["uploads/2026/dog.jpg", "uploads/cat.jpg"]
    assert [shown(path) for path in met] == [
        "uploads/2026/caf\\xe9.jpg",
        "uploads/a\\x0ab.jpg",
        "uploads/b\\xff",
        "uploads/del\\x7f.jpg",
    ]


# -- one name, spelled in two ways: an `ä` of one character, or of two

COMPOSED, DECOMPOSED = "uploads/B\u00e4r/\u00e4.jpg", "uploads/Ba\u0308r/a\u0308.jpg"
MIXED = "uploads/B\u00e4r/a\u0308.jpg"


@pytest.mark.parametrize("on_disk", [COMPOSED, DECOMPOSED, MIXED])
@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED, MIXED])
async def test_an_original_is_found_however_its_name_is_spelled(
    local_blobs: LocalBlobs, root: Path, on_disk: str, asked: str
) -> None:
    (root / on_disk).parent.mkdir(parents=True)
    (root / on_disk).write_bytes(b"bear")

    assert await local_blobs.get(asked) == b"bear"
    assert await is_there(local_blobs, asked)
    looked = await stat_of(local_blobs, asked)
    assert looked == await info_of(local_blobs, asked)
    await local_blobs.move(asked, "trash/bear")
    assert not (root / on_disk).exists()
    assert await stat_of(local_blobs, asked) is Existence.MISSING


async def test_of_two_files_that_differ_only_in_spelling_each_is_found_under_its_own(
    local_blobs: LocalBlobs, uploads: Path
) -> None:
    one, other = "uploads/\u00e4.jpg", "uploads/a\u0308.jpg"
    for key in (one, other):
        await local_blobs.put(key, chunks(key.encode()))
    await local_blobs.move(one, "trash/one")

    assert await local_blobs.get("trash/one") == one.encode()
    assert await local_blobs.get(other) == other.encode()


async def test_only_originals_have_spellings(local_blobs: LocalBlobs) -> None:
    await local_blobs.put("variants/\u00e4", chunks(b"x"))

    assert await stat_of(local_blobs, "variants/a\u0308") is Existence.MISSING


async def test_a_list_passes_over_what_lies_too_deep_for_a_key(
    local_blobs: LocalBlobs, uploads: Path
) -> None:
    folder = "/".join(["a" * 200] * 10)
    (uploads / folder / "deep").mkdir(parents=True)
    short, long = "b" * (MAX_BYTES - len(f"uploads/{folder}/")), "\u00e4" * 100
    for name in (short, long, f"deep/{short}"):
        (uploads / folder / name).write_bytes(b"x")
    met: list[str] = []

    assert await listed(local_blobs, "uploads", on_misnamed=met.append) == [f"uploads/{folder}/{short}"]
    assert met == [f"uploads/{folder}/deep/{short}", f"uploads/{folder}/{long}"]
    assert [info.bytes async for info in local_blobs.list_infos("uploads")] == [1]


async def test_a_list_opens_a_folder_once_and_none_of_its_files(
    local_blobs: LocalBlobs, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (uploads / folder).mkdir()
        for number in range(5):
            (uploads / folder / f"{number}.jpg").write_bytes(b"x")
    await local_blobs.enter("uploads")  # for the first time
    opened: list[str] = []
    real = os.open

    def noted(name: Any, *args: Any, **more: Any) -> int:
        opened.append(str(name))
        return real(name, *args, **more)

    monkeypatch.setattr(os, "open", noted)
    found = await listed(local_blobs, "uploads")

    assert len(found) == 10
    assert opened == ["uploads", "a", "b"]


# -- modes, order of writes, what is left after an error


@pytest.mark.usefixtures("strict_umask")
async def test_the_web_server_can_read_what_is_published_whatever_the_umask(tmp_path: Path) -> None:
    root = tmp_path / "strict"
    async with open_local(root, create=True) as blobs:
        await blobs.bind("c", catalog_is_new=True)
        await blobs.put("variants/ab/cd/a.jpg", chunks(b"x"))

    folders = [root, root / "variants", root / "variants/ab", root / "variants/ab/cd"]
    assert [mode(folder) for folder in folders] == ["0o755"] * 4
    assert mode(root / "variants/ab/cd/a.jpg") == "0o644"
    assert mode(root / ".media-root.json") == "0o644"


async def test_a_staged_file_is_visible_only_once_it_is_published(local_blobs: LocalBlobs) -> None:
    async with local_blobs._stage(2) as [thumb, large]:
        os.write(thumb.fd, b"small")
        os.write(large.fd, b"big")
        before = [await listed(local_blobs, "variants"), await stat_of(local_blobs, "variants/thumb")]
        await local_blobs._publish([(thumb, "variants/thumb"), (large, "variants/large")])

    assert before == [[], Existence.MISSING]
    assert await local_blobs.get("variants/thumb") == b"small"
    assert await local_blobs.get("variants/large") == b"big"


async def test_a_staged_file_that_is_not_published_leaves_nothing(local_blobs: LocalBlobs) -> None:
    async with local_blobs._stage(2) as [first, second]:
        os.write(first.fd, b"kept")
        os.write(second.fd, b"dropped")
        await local_blobs._publish([(first, "variants/first")])

    assert await listed(local_blobs, "variants") == ["variants/first"]
    assert await listed(local_blobs, "staging") == []


async def test_a_staged_file_cannot_be_used_after_its_time(local_blobs: LocalBlobs) -> None:
    async with local_blobs._stage(1) as [staged]:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(staged.fd)


async def test_only_a_file_that_was_handed_out_is_published(local_blobs: LocalBlobs) -> None:
    async with local_blobs._stage(2) as [first, second]:
        mixed = Staged(first.fd, second.name)
        with pytest.raises(BlobsUnavailable, match="another file"):
            await local_blobs._publish([(second, "variants/second"), (mixed, "variants/mixed")])

    assert await listed(local_blobs, "variants") == []


async def test_a_staged_file_is_nobody_elses_before_it_is_published(local_blobs: LocalBlobs) -> None:
    async with local_blobs._stage(1) as [staged]:
        assert oct(stat.S_IMODE(os.fstat(staged.fd).st_mode)) == "0o600"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The real fsync and rename, each call noted with the name of what it was about."""
    noted: list[tuple[str, str]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        noted.append(("fsync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        real_fsync(fd)

    def rename(name: str, to: str, **folders: int) -> None:
        noted.append(("rename", f"{name} to {to}"))
        real_rename(name, to, **folders)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    return noted


async def test_bytes_are_durable_before_they_are_visible_and_their_folder_after(
    local_blobs: LocalBlobs, root: Path, calls: list[tuple[str, str]]
) -> None:
    (root / "variants").mkdir()
    async with local_blobs._stage(2) as [first, second]:
        calls.clear()
        await local_blobs._publish([(first, "variants/a"), (second, "variants/b")])

    expected = [
        ("fsync", first.name),
        ("fsync", second.name),
        ("rename", f"{first.name} to a"),
        ("fsync", "variants"),
        ("rename", f"{second.name} to b"),
        ("fsync", "variants"),
    ]
    assert calls == expected


async def test_all_that_is_stored_is_durable_before_any_of_it_is_visible(
    local_blobs: LocalBlobs, calls: list[tuple[str, str]]
) -> None:
    await local_blobs.store([("variants/a", b"one"), ("variants/b", b"two")])

    kinds = [kind for kind, _ in calls]
    assert kinds[-6:] == ["fsync", "fsync", "rename", "fsync", "rename", "fsync"]
    assert [what for kind, what in calls[-4:] if kind == "fsync"] == ["variants", "variants"]


async def test_a_new_folder_is_durable_before_a_file_is_put_into_it(
    local_blobs: LocalBlobs, calls: list[tuple[str, str]]
) -> None:
    async with local_blobs._stage(1) as [staged]:
        calls.clear()
        await local_blobs._publish([(staged, "variants/ab/a")])

    assert calls[1:] == [
        ("fsync", "media"),
        ("fsync", "variants"),
        ("rename", f"{staged.name} to a"),
        ("fsync", "ab"),
    ]


async def test_a_folder_of_the_trash_goes_with_its_last_file_and_other_folders_stay(
    local_blobs: LocalBlobs, root: Path
) -> None:
    old, young, served = "trash/sweep-1/variants/ab/a", "trash/sweep-1/plan.json", "variants/ab/a"
    await local_blobs.store([(key, b"x") for key in (old, young, served)])

    for key in (old, served):
        await local_blobs.delete(key)
    assert [path.name for path in (root / "trash" / "sweep-1").iterdir()] == ["plan.json"]
    await local_blobs.delete(young)

    assert list((root / "trash").iterdir()) == []
    assert (root / "variants" / "ab").is_dir()


async def test_a_folder_of_the_trash_goes_with_what_comes_back_from_it(
    local_blobs: LocalBlobs, root: Path
) -> None:
    await local_blobs.store([("trash/sweep-1/variants/ab/a", b"x")])

    await local_blobs.move("trash/sweep-1/variants/ab/a", "variants/ab/a")

    assert list((root / "trash").iterdir()) == []
    assert (root / "variants" / "ab" / "a").read_bytes() == b"x"


async def test_a_deletion_is_durable(local_blobs: LocalBlobs, calls: list[tuple[str, str]]) -> None:
    await local_blobs.put("variants/ab/a", chunks(b"x"))
    calls.clear()
    await local_blobs.delete("variants/ab/a")

    assert calls == [("fsync", "ab")]


@contextmanager
def failing(name: str, number: int) -> Iterator[None]:
    """`os.<name>` fails as a disk does, the way that the kernel says it."""
    real = getattr(os, name)

    def fail(*_args: Any, **_more: Any) -> None:
        raise OSError(number, os.strerror(number))

    setattr(os, name, fail)
    try:
        yield
    finally:
        setattr(os, name, real)


@pytest.mark.parametrize("call", ["fsync", "rename", "fchmod"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, BlobsUnavailable),
        (errno.EROFS, BlobsUnavailable),
    ],
    ids=["full", "over quota", "broken", "read-only"],
)
async def test_a_disk_that_fails_leaves_nothing_behind(
    local_blobs: LocalBlobs, root: Path, call: str, number: int, expected: type[BlobsUnavailable]
) -> None:
    with failing(call, number), pytest.raises(expected) as caught:
        await local_blobs.put("variants/a", chunks(b"x"))

    assert type(caught.value) is expected
    assert caught.value.__cause__ is not None
    assert await listed(local_blobs, "staging") == []
    assert await stat_of(local_blobs, "variants/a") is Existence.MISSING


async def test_a_disk_that_is_full_while_bytes_are_written_says_so(local_blobs: LocalBlobs) -> None:
    async def much() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageFull):
        await local_blobs.put("variants/a", much())

    assert await listed(local_blobs, "staging") == []


async def test_whether_a_blob_is_there_is_unknown_while_the_disk_fails(local_blobs: LocalBlobs) -> None:
    with failing("open", errno.EIO):
        answer = await stat_of(local_blobs, "uploads/a")

    assert answer is Existence.UNKNOWN


# -- staged files that others have touched


async def test_a_staged_file_that_became_a_link_is_not_published(
    local_blobs: LocalBlobs, root: Path, outside: Path
) -> None:
    async with local_blobs._stage(2) as [honest, swapped]:
        place = Path(os.readlink(f"/proc/self/fd/{swapped.fd}"))
        place.unlink()
        place.symlink_to(outside / "secret")
        with pytest.raises(BlobsUnavailable, match="another file"):
            await local_blobs._publish([(honest, "variants/a"), (swapped, "variants/b")])

    assert await listed(local_blobs, "variants") == []
    assert (outside / "secret").read_bytes() == SECRET
    assert mode(outside / "secret") == "0o644"


async def test_a_staged_file_that_became_another_file_is_not_published(local_blobs: LocalBlobs) -> None:
    async with local_blobs._stage(1) as [staged]:
        place = Path(os.readlink(f"/proc/self/fd/{staged.fd}"))
        place.unlink()
        place.write_bytes(b"another")
        with pytest.raises(BlobsUnavailable, match="another file"):
            await local_blobs._publish([(staged, "variants/a")])

    assert await listed(local_blobs, "variants") == []
    assert await listed(local_blobs, "staging") == []


async def test_a_staged_file_that_is_gone_is_the_storages_fault_and_not_a_missing_blob(
    local_blobs: LocalBlobs,
) -> None:
    async with local_blobs._stage(1) as [staged]:
        Path(os.readlink(f"/proc/self/fd/{staged.fd}")).unlink()
        with pytest.raises(BlobsUnavailable, match="a staged file is gone"):
            await local_blobs._publish([(staged, "variants/a")])


async def test_a_staging_folder_that_somebody_removed_is_made_again(
    local_blobs: LocalBlobs, root: Path
) -> None:
    await local_blobs.put("variants/a", chunks(b"x"))
    shutil.rmtree(root / "staging")
    await local_blobs.put("variants/b", chunks(b"y"))

    assert await listed(local_blobs, "variants") == ["variants/a", "variants/b"]


async def test_one_unacceptable_key_keeps_all_from_being_published(local_blobs: LocalBlobs) -> None:
    async with local_blobs._stage(2) as [first, second]:
        with pytest.raises(Exception, match="segment"):
            await local_blobs._publish([(first, "variants/a"), (second, "variants/../b")])

    assert await listed(local_blobs, "variants") == []


# -- staging folders of the living and the dead

HOLDER = """
import asyncio, os, sys
from pathlib import Path
from storage.blobs.local import open_local

async def main():
    async with open_local(Path(sys.argv[1]), create=True) as blobs, blobs._stage(1) as [staged]:
        os.write(staged.fd, b"half a picture")
        print("holding", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@contextmanager
def another_process(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_the_staging_folder_of_a_living_process_stays_and_that_of_a_dead_one_goes(root: Path) -> None:
    with another_process(HOLDER, str(root)) as holder:
        assert said(holder) == "holding"
        async with open_local(root, create=False) as blobs:
            await blobs.prepare()
            while_alive = await listed(blobs, "staging")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        async with open_local(root, create=False) as blobs:
            await blobs.prepare()
            once_dead = await listed(blobs, "staging")

    assert len(while_alive) == 1
    assert once_dead == []
    assert list((root / "staging").iterdir()) == []


async def test_what_is_not_a_workers_in_the_staging_folder_is_left_alone(root: Path, outside: Path) -> None:
    (root / "staging").mkdir(parents=True)
    (root / "staging" / "README").write_text("mine")
    (root / "staging" / "wlink").symlink_to(outside)
    async with open_local(root, create=False) as blobs:
        await blobs.prepare()

    assert sorted(file.name for file in (root / "staging").iterdir()) == ["README", "wlink"]
    assert (outside / "secret").read_bytes() == SECRET


async def test_a_read_only_disk_at_start_is_reported_as_storage_that_fails(local_blobs: LocalBlobs) -> None:
    with failing("mkdir", errno.EROFS), pytest.raises(BlobsUnavailable):
        await local_blobs.prepare()


# -- the root's identity


async def test_a_new_catalog_and_a_new_root_are_married(local_blobs: LocalBlobs, root: Path) -> None:
    await local_blobs.bind("first", catalog_is_new=True)
    await local_blobs.bind("first", catalog_is_new=False)

    assert orjson.loads((root / ".media-root.json").read_bytes()) == {"catalog": "first", "version": 1}
    assert [file.name for file in root.iterdir()] == [".media-root.json"]


async def test_originals_that_are_there_already_do_not_keep_a_new_catalog_away(
    local_blobs: LocalBlobs, uploads: Path
) -> None:
    (uploads / "cat.jpg").write_bytes(b"x")
    await local_blobs.bind("first", catalog_is_new=True)


async def test_variants_without_a_marker_stop_a_new_catalog(local_blobs: LocalBlobs, root: Path) -> None:
    (root / "variants/ab").mkdir(parents=True)
    with pytest.raises(RootMismatch, match="media rebuild"):
        await local_blobs.bind("first", catalog_is_new=True)

    assert not (root / ".media-root.json").exists()


async def test_a_root_that_lost_its_marker_stops_its_catalog(local_blobs: LocalBlobs, root: Path) -> None:
    await local_blobs.bind("first", catalog_is_new=True)
    (root / ".media-root.json").unlink()

    with pytest.raises(RootMismatch, match="disk not mounted"):
        await local_blobs.bind("first", catalog_is_new=False)


@pytest.mark.parametrize("is_new", [True, False])
async def test_another_catalogs_root_is_refused(local_blobs: LocalBlobs, *, is_new: bool) -> None:
    await local_blobs.bind("first", catalog_is_new=True)

    with pytest.raises(RootMismatch, match="belongs to the catalog first, but the catalog in use is second"):
        await local_blobs.bind("second", catalog_is_new=is_new)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null", b'"text"'])
async def test_a_damaged_marker_stops(local_blobs: LocalBlobs, root: Path, content: bytes) -> None:
    (root / ".media-root.json").write_bytes(content)

    with pytest.raises(RootMismatch, match="is damaged"):
        await local_blobs.bind("first", catalog_is_new=True)


async def test_a_marker_that_cannot_be_read_or_written_is_storage_that_fails(
    local_blobs: LocalBlobs, root: Path
) -> None:
    with failing("link", errno.ENOSPC), pytest.raises(StorageFull):
        await local_blobs.bind("first", catalog_is_new=True)
    (root / ".media-root.json").mkdir()
    with pytest.raises(BlobRefused):
        await local_blobs.bind("first", catalog_is_new=True)


async def test_a_root_that_is_not_there_stops_unless_it_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(RootMismatch, match="does not exist"):
        async with open_local(tmp_path / "none", create=False):
            pass

    assert not (tmp_path / "none").exists()


STARTER = """
import asyncio, sys
from pathlib import Path
from storage.blobs.local import open_local

async def main():
    async with open_local(Path(sys.argv[1]), create=True) as blobs:
        print("ready", flush=True)
        sys.stdin.read()
        await blobs.prepare()
        print("started", flush=True)

asyncio.run(main())
"""

BINDER = """
import asyncio, sys
from pathlib import Path
from storage.blobs.local import open_local
from storage.errors import RootMismatch

async def main():
    async with open_local(Path(sys.argv[1]), create=True) as blobs:
        print("ready", flush=True)
        sys.stdin.read()
        try:
            await blobs.bind(sys.argv[2], catalog_is_new=True)
        except RootMismatch:
            print("refused", flush=True)
        else:
            print("bound", flush=True)

asyncio.run(main())
"""


def raced(root: Path, catalogs: list[str], program: str = BINDER) -> list[str]:
    """What each process says that binds the root to its catalog, all at the same moment."""
    start, go = os.pipe()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(root), catalog],
            stdin=start,
            stdout=subprocess.PIPE,
            text=True,
        )
        for catalog in catalogs
    ]
    os.close(start)
    ready = [said(process) for process in processes]
    os.close(go)
    answers = [process.communicate(timeout=20)[0].strip() for process in processes]
    assert ready == ["ready"] * len(catalogs)
    return answers


def test_two_workers_of_one_new_catalog_both_start_on_a_new_root(root: Path) -> None:
    catalog = str(uuid4())

    assert raced(root, [catalog, catalog, catalog]) == ["bound"] * 3
    assert orjson.loads((root / ".media-root.json").read_bytes())["catalog"] == catalog


def test_of_two_new_catalogs_on_a_new_root_one_is_refused(root: Path) -> None:
    assert sorted(raced(root, ["one", "two"])) == ["bound", "refused"]


def test_workers_that_start_together_after_a_crash_all_start(root: Path) -> None:
    for _ in range(300):
        (root / f"staging/w{uuid4().hex}").mkdir(parents=True)

    assert raced(root, [""] * 6, STARTER) == ["started"] * 6
    assert os.listdir(root / "staging") == []


async def test_an_area_that_hangs_holds_up_no_file_of_another_that_is_opened_at_the_same_moment(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await local_blobs.store([("variants/a", b"x")])
    go = threading.Event()
    real = os.open

    def hang(name: Any, *args: Any, **more: Any) -> int:
        if name == "uploads":
            go.wait(10)
        return real(name, *args, **more)

    monkeypatch.setattr(os, "open", hang)
    hanging = [asyncio.create_task(look("uploads/b")) for look in (local_blobs.stamp, local_blobs.get)]
    found = await asyncio.gather(local_blobs.get("variants/a"), local_blobs.stamp("variants/a"))
    were_hanging = not any(task.done() for task in hanging)
    go.set()

    assert (found[0], were_hanging) == (b"x", True)
    assert [type(one) for one in await asyncio.gather(*hanging, return_exceptions=True)] == [BlobNotFound] * 2


async def test_a_right_that_is_missing_is_of_one_file_whether_it_is_opened_or_compared(
    local_blobs: LocalBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await local_blobs.store([("uploads/shut/a", b"x")])
    real = os.open

    def refuse(name: Any, *args: Any, **more: Any) -> int:
        if name == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, *args, **more)

    monkeypatch.setattr(os, "open", refuse)
    looks = (local_blobs.get("uploads/shut/a"), local_blobs.stamp("uploads/shut/a"))
    found = await asyncio.gather(*looks, return_exceptions=True)

    assert [type(one) for one in found] == [BlobForbidden] * 2
    assert {str(one).partition(" by ")[0] for one in found} == {f"{root}/uploads/shut/a cannot be read"}
