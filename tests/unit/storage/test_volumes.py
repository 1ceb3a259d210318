"""A storage whose folders are volumes of their own, or links of the operator's making."""

import asyncio
import errno
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.blobs import Existence
from storage.blobs.local import LocalBlobs, open_local
from storage.blobs.root import Root
from storage.errors import BlobPinned, BlobRefused, BlobsUnavailable, VolumeMissing
from tests.support.blobs import chunks, info_of, listed, stat_of
from tests.support.disks import bound, small_disk
from tests.unit.storage.test_local_blobs import another_process, failing, said

AREAS = ("uploads", "variants", "trash", "staging")


@pytest.fixture
def elsewhere(local_blobs: LocalBlobs, root: Path, volume: Path) -> Path:
    """`variants/` and `uploads/` are links to another volume."""
    for area in ("uploads", "variants"):
        (volume / area).mkdir()
        (root / area).symlink_to(volume / area)
    return volume


@pytest.mark.parametrize("area", AREAS)
async def test_a_folder_of_the_root_may_be_a_link_of_the_operator(
    local_blobs: LocalBlobs, root: Path, tmp_path: Path, area: str
) -> None:
    (tmp_path / "disk").mkdir()
    (root / area).symlink_to(tmp_path / "disk")
    await local_blobs.put("uploads/cat.jpg", chunks(b"cat"))
    await local_blobs.store([("variants/ab/a", b"variant")])
    await local_blobs.move("uploads/cat.jpg", "trash/plan/uploads/cat.jpg")

    assert await local_blobs.get("variants/ab/a") == b"variant"
    assert await local_blobs.get("trash/plan/uploads/cat.jpg") == b"cat"
    assert await listed(local_blobs, "uploads") == []
    assert (root / area).is_symlink()


@pytest.mark.parametrize("area", AREAS)
async def test_a_link_below_such_a_link_is_not_followed(
    local_blobs: LocalBlobs, root: Path, tmp_path: Path, area: str
) -> None:
    for folder in ("disk", "outside"):
        (tmp_path / folder).mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    (root / area).symlink_to(tmp_path / "disk")
    (tmp_path / "disk/link").symlink_to(tmp_path / "outside")

    with pytest.raises(BlobRefused):
        await local_blobs.get(f"{area}/link/secret")


@pytest.mark.parametrize("area", AREAS)
async def test_a_link_to_a_disk_that_is_not_mounted_is_an_outage_and_no_missing_file(
    local_blobs: LocalBlobs, root: Path, tmp_path: Path, area: str
) -> None:
    (root / area).symlink_to(tmp_path / "not-mounted")

    with pytest.raises(BlobsUnavailable, match=f"{area} is a link to .*not-mounted.* not mounted"):
        await local_blobs.get(f"{area}/cat.jpg")
    assert await stat_of(local_blobs, f"{area}/cat.jpg") is Existence.UNKNOWN
    assert set((await local_blobs.stat([f"{area}/cat.jpg"])).values()) == {Existence.UNKNOWN}
    with pytest.raises(BlobsUnavailable):
        await listed(local_blobs, area)
    with pytest.raises(BlobsUnavailable):
        await local_blobs.put(f"{area}/cat.jpg", chunks(b"cat"))


@pytest.mark.parametrize("area", ["uploads", "variants"])
async def test_a_file_in_the_place_of_a_folder_is_an_outage_and_no_refused_picture(
    local_blobs: LocalBlobs, root: Path, area: str
) -> None:
    (root / area).write_bytes(b"")

    with pytest.raises(BlobsUnavailable, match=str(root / area)):
        await local_blobs.get(f"{area}/cat.jpg")


@pytest.mark.usefixtures("strict_umask")
async def test_what_is_published_to_another_volume_is_whole_durable_and_readable_for_a_web_server(
    local_blobs: LocalBlobs, elsewhere: Path
) -> None:
    await local_blobs.store([("variants/ab/cd/a.jpg", b"a" * 3_000_000), ("variants/ab/b.jpg", b"b")])

    file = elsewhere / "variants/ab/cd/a.jpg"
    assert file.read_bytes() == b"a" * 3_000_000
    assert file.stat().st_mode & 0o777 == 0o644
    assert (elsewhere / "variants/ab").stat().st_mode & 0o777 == 0o755


async def test_unfinished_writes_lie_beside_what_they_become_where_nobody_looks(
    local_blobs: LocalBlobs, root: Path, elsewhere: Path
) -> None:
    await local_blobs.store([("variants/a", b"first: finds out where variants lie")])
    async with local_blobs._stage(1):
        pass
    beside = elsewhere / "variants/.media-staging"
    [staging] = beside.iterdir()
    (staging / "77").write_bytes(b"half a picture")

    assert await listed(local_blobs, "variants") == ["variants/a"]
    assert await listed(local_blobs, "variants/.media-staging") == [
        f"variants/.media-staging/{staging.name}/77"
    ]
    assert beside.stat().st_mode & 0o777 == 0o700
    assert [page async for page in local_blobs.list("variants")] == [["variants/a"]]


HOLDER = """
import asyncio, sys
from pathlib import Path
from storage.blobs.local import open_local

async def main():
    async with open_local(Path(sys.argv[1]), create=True) as blobs:
        await blobs.store([("variants/a", b"x")])
        [staged] = blobs._staging.make(1, "variants")
        print("holding", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_a_dead_process_left_on_another_volume_goes_when_the_next_one_starts(
    root: Path, elsewhere: Path
) -> None:
    beside = elsewhere / "variants/.media-staging"
    with another_process(HOLDER, str(root)) as holder:
        assert said(holder) == "holding"
        async with open_local(root, create=False) as blobs:
            await blobs.prepare()
            while_alive = len(list(beside.rglob("*")))
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    async with open_local(root, create=False) as blobs:
        await blobs.prepare()

    assert while_alive == 2
    assert list(beside.iterdir()) == []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real calls that make names and make them durable, in their order."""
    noted: list[str] = []
    for name in ("fsync", "rename", "unlink"):
        real = getattr(os, name)

        def call(*args: object, name: str = name, real: object = real, **more: object) -> object:
            result = real(*args, **more)  # type: ignore[operator]
            noted.append(name)
            return result

        monkeypatch.setattr(os, name, call)
    return noted


async def test_a_move_to_another_volume_is_durable_there_before_it_is_gone_here(
    local_blobs: LocalBlobs, root: Path, elsewhere: Path, calls: list[str]
) -> None:
    (elsewhere / "uploads/cat.jpg").write_bytes(b"cat")
    (root / "trash/plan").mkdir(parents=True)
    await local_blobs.put("trash/first", chunks(b"x"))
    calls.clear()
    moved = await local_blobs.move("uploads/cat.jpg", "trash/plan/cat.jpg")

    assert calls == ["fsync", "rename", "fsync", "unlink", "fsync"]
    assert moved is not None
    assert not (elsewhere / "uploads/cat.jpg").exists()


@pytest.mark.parametrize("step", ["fsync", "unlink"])
async def test_a_move_to_another_volume_that_breaks_off_has_lost_nothing_and_can_be_done_again(
    local_blobs: LocalBlobs, elsewhere: Path, step: str
) -> None:
    original = elsewhere / "uploads/cat.jpg"
    original.write_bytes(b"cat")
    with failing(step, errno.EIO), pytest.raises(BlobsUnavailable):
        await local_blobs.move("uploads/cat.jpg", "trash/plan/cat.jpg")
    assert original.read_bytes() == b"cat"
    await local_blobs.move("uploads/cat.jpg", "trash/plan/cat.jpg")

    assert await local_blobs.get("trash/plan/cat.jpg") == b"cat"
    assert not original.exists()


async def test_what_was_moved_to_another_volume_is_known_for_the_file_that_it_was(
    local_blobs: LocalBlobs, elsewhere: Path
) -> None:
    (elsewhere / "variants/a").write_bytes(b"variant")
    compared = await info_of(local_blobs, "variants/a")
    moved = await local_blobs.move("variants/a", "trash/plan/a")

    assert moved is not None
    assert moved.is_same_file(compared)


async def test_a_file_that_came_while_another_was_copied_away_stays(
    local_blobs: LocalBlobs, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = elsewhere / "uploads/cat.jpg"
    original.write_bytes(b"old")
    real = os.utime

    def replaced_meanwhile(*args: object, **more: object) -> None:
        real(*args, **more)  # type: ignore[arg-type]
        (elsewhere / "new").write_bytes(b"new")
        (elsewhere / "new").rename(original)

    monkeypatch.setattr(os, "utime", replaced_meanwhile)
    await local_blobs.move("uploads/cat.jpg", "trash/cat.jpg")

    assert original.read_bytes() == b"new"
    assert await local_blobs.get("trash/cat.jpg") == b"old"


@pytest.mark.parametrize("apart", [True, False], ids=["another volume", "same volume"])
async def test_an_original_whose_folder_cannot_be_written_stays_and_nothing_is_left_in_the_trash(
    local_blobs: LocalBlobs, root: Path, volume: Path, monkeypatch: pytest.MonkeyPatch, *, apart: bool
) -> None:
    uploads = volume / "uploads" if apart else root / "uploads"
    uploads.mkdir()
    if apart:
        (root / "uploads").symlink_to(uploads)
    (uploads / "cat.jpg").write_bytes(b"cat")
    for name in ("unlink", "rename"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), "cat.jpg"))
    with pytest.raises(BlobPinned, match=f"{root}/uploads/cat.jpg cannot be taken away by the user"):
        await local_blobs.move("uploads/cat.jpg", "trash/plan/kept.jpg")

    assert (uploads / "cat.jpg").read_bytes() == b"cat"
    assert list((root / "trash").iterdir()) == []


def refusing(real: Callable[..., None], name: str) -> Callable[..., None]:
    """The real call, but for one name, which lies in a folder that lets nothing go."""

    def call(first: str, *args: object, **more: object) -> None:
        if first == name and not _crosses(more):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        real(first, *args, **more)

    return call


def _crosses(folders: dict[str, object]) -> bool:
    """A rename across volumes first fails with EXDEV."""
    here, there = (folders.get(name) for name in ("src_dir_fd", "dst_dir_fd"))
    return (
        isinstance(here, int) and isinstance(there, int) and os.fstat(here).st_dev != os.fstat(there).st_dev
    )


async def test_a_folder_that_is_on_another_volume_than_before_is_an_outage(
    local_blobs: LocalBlobs, root: Path, elsewhere: Path
) -> None:
    (elsewhere / "uploads/cat.jpg").write_bytes(b"cat")
    await local_blobs.get("uploads/cat.jpg")
    (root / "uploads").unlink()
    (root / "uploads").mkdir()

    with pytest.raises(BlobsUnavailable, match=f"{root}/uploads is on another file system"):
        await local_blobs.get("uploads/cat.jpg")
    assert await stat_of(local_blobs, "uploads/cat.jpg") is Existence.UNKNOWN


async def test_a_folder_of_originals_that_was_there_and_is_gone_is_an_outage(
    local_blobs: LocalBlobs, root: Path
) -> None:
    await local_blobs.put("uploads/cat.jpg", chunks(b"cat"))
    shutil.move(root / "uploads", root / "moved")

    with pytest.raises(BlobsUnavailable, match=f"{root}/uploads is gone"):
        await local_blobs.get("uploads/cat.jpg")


# -- a volume that is missing already when a process begins


@pytest.fixture
async def volumes(local_blobs: LocalBlobs, root: Path, volume: Path) -> Path:
    """Every area was a link to a volume when a worker was there; a link stands for a mount."""
    await local_blobs.bind("first", catalog_is_new=True)
    for area in AREAS:
        (volume / area).mkdir()
        (volume / area / "content").write_bytes(b"cat")
        (root / area).symlink_to(volume / area)
    await local_blobs.probe()
    return volume


def unmounted(folder: Path) -> None:
    folder.unlink()
    folder.mkdir()


def unmounted_with_something_under_it(folder: Path) -> None:
    unmounted(folder)
    (folder / "other").write_bytes(b"written while it was not mounted")


def without_its_mount_point(folder: Path) -> None:
    folder.unlink()


def another_empty_folder_mounted(folder: Path) -> None:
    empty = folder.resolve().with_name("empty")
    empty.mkdir()
    folder.unlink()
    folder.symlink_to(empty)


LOSSES = [unmounted, unmounted_with_something_under_it, without_its_mount_point]
MISSING = [(loss, area) for loss in LOSSES for area in AREAS]
MISSING += [(another_empty_folder_mounted, area) for area in ("uploads", "variants")]


@pytest.mark.parametrize(("lose", "area"), MISSING)
async def test_a_volume_that_is_missing_when_a_process_begins_is_an_outage_by_name_until_it_is_back(
    root: Path, volumes: Path, lose: Callable[[Path], None], area: str
) -> None:
    lose(root / area)
    async with open_local(root, create=False) as blobs:
        await blobs.bind("first", catalog_is_new=False)
        with pytest.raises(VolumeMissing, match=rf"{root}/{area} .* not mounted"):
            await blobs.get(f"{area}/content")
        with pytest.raises(VolumeMissing):
            await blobs.put(f"{area}/more", chunks(b"x"))
        assert await stat_of(blobs, f"{area}/content") is Existence.UNKNOWN
        assert not (root / area / "more").exists()

        remount(root / area, volumes / area)
        assert await blobs.get(f"{area}/content") == b"cat"
        await blobs.probe()


def remount(folder: Path, volume: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
    folder.symlink_to(volume)


async def test_a_volume_that_is_back_under_another_number_needs_no_new_process(
    local_blobs: LocalBlobs, root: Path, tmp_path: Path, volumes: Path
) -> None:
    with small_disk(tmp_path / "disk", mib=1) as disk:
        (disk / "content").write_bytes(b"cat")
        unmounted(root / "uploads")
        with pytest.raises(VolumeMissing):
            await local_blobs.probe()
        remount(root / "uploads", disk)

        await local_blobs.probe()
        assert await local_blobs.get("uploads/content") == b"cat"


@pytest.mark.parametrize("lose", [*LOSSES, another_empty_folder_mounted])
async def test_a_volume_that_is_given_up_on_purpose_is_forgotten_by_the_line_that_is_printed(
    root: Path, volumes: Path, lose: Callable[[Path], None]
) -> None:
    lose(root / "uploads")
    async with open_local(root, create=False) as blobs:
        await blobs.bind("first", catalog_is_new=False)
        with pytest.raises(VolumeMissing, match="rm ") as caught:
            await blobs.probe()
        [line] = re.findall(r"rm \S+", str(caught.value))
        subprocess.run(["sh", "-ec", line], check=True)  # noqa: ASYNC221

        await blobs.probe()
        assert await stat_of(blobs, "uploads/cat.jpg") is Existence.MISSING


@pytest.mark.parametrize("area", ["trash", "staging"])
async def test_a_volume_that_only_passes_files_on_may_be_empty(root: Path, volumes: Path, area: str) -> None:
    (volumes / area / "content").unlink()
    async with open_local(root, create=False) as blobs:
        await blobs.bind("first", catalog_is_new=False)

        assert await stat_of(blobs, f"{area}/content") is Existence.MISSING


async def test_a_volume_whose_last_file_goes_before_our_eyes_is_there(
    local_blobs: LocalBlobs, root: Path, volumes: Path
) -> None:
    (volumes / "uploads/content").unlink()
    await local_blobs.probe()

    async with open_local(root, create=False) as the_next_process:
        await the_next_process.bind("first", catalog_is_new=False)
        for blobs in (local_blobs, the_next_process):
            assert await stat_of(blobs, "uploads/content") is Existence.MISSING


async def test_a_volume_that_was_always_empty_is_no_missing_one(
    local_blobs: LocalBlobs, root: Path, elsewhere: Path
) -> None:
    await local_blobs.bind("first", catalog_is_new=True)
    await local_blobs.probe()
    async with open_local(root, create=False) as blobs:
        await blobs.bind("first", catalog_is_new=False)
        await blobs.probe()

        assert await stat_of(blobs, "uploads/cat.jpg") is Existence.MISSING


async def test_a_root_on_one_volume_remembers_none(local_blobs: LocalBlobs, root: Path) -> None:
    await local_blobs.bind("first", catalog_is_new=True)
    await local_blobs.put("uploads/cat.jpg", chunks(b"cat"))
    await local_blobs.probe()

    assert not (root / ".media-volumes").exists()


async def test_a_root_that_is_restored_on_one_volume_is_well(
    root: Path, tmp_path: Path, volumes: Path
) -> None:
    restored = tmp_path / "restored"
    (restored / "uploads").mkdir(parents=True)
    shutil.copy(root / ".media-root.json", restored)
    shutil.copy(volumes / "uploads/content", restored / "uploads")
    async with open_local(restored, create=False) as blobs:
        await blobs.bind("first", catalog_is_new=False)
        await blobs.probe()

        assert await blobs.get("uploads/content") == b"cat"


async def test_a_folder_that_is_mounted_from_the_same_disk_is_a_volume_too(
    local_blobs: LocalBlobs, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "originals").mkdir()
    (tmp_path / "originals/cat.jpg").write_bytes(b"cat")
    await local_blobs.bind("first", catalog_is_new=True)
    with bound(tmp_path / "originals", root / "uploads"):
        await local_blobs.probe()
    async with open_local(root, create=False) as blobs:
        await blobs.bind("first", catalog_is_new=False)

        with pytest.raises(VolumeMissing, match=r"uploads is a volume .* nothing now"):
            await blobs.probe()


async def test_a_folder_that_only_some_have_mounted_is_there_for_all(
    local_blobs: LocalBlobs, root: Path
) -> None:
    """A container may have the originals mounted once more, for reading only; commands outside of it not."""
    (root / "uploads").mkdir()
    (root / "uploads/cat.jpg").write_bytes(b"cat")
    await local_blobs.bind("first", catalog_is_new=True)
    with bound(root / "uploads", root / "uploads"):
        await local_blobs.probe()
    async with open_local(root, create=False) as blobs:
        await blobs.bind("first", catalog_is_new=False)

        assert await blobs.get("uploads/cat.jpg") == b"cat"


async def test_what_cannot_be_written_down_is_no_outage_and_leaves_nothing(
    local_blobs: LocalBlobs, root: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await local_blobs.bind("first", catalog_is_new=True)
    monkeypatch.setattr("storage.blobs.syscalls.grant", _full)
    await local_blobs.probe()

    assert {path.name for path in root.iterdir()} == {".media-root.json", "uploads", "variants", "staging"}


def _full(*_args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_what_cannot_be_read_is_an_outage_and_no_refused_picture(
    local_blobs: LocalBlobs, root: Path
) -> None:
    (root / ".media-volumes").mkdir()
    (root / "uploads").mkdir()

    with pytest.raises(BlobsUnavailable, match=f"{root}/.media-volumes"):
        await local_blobs.get("uploads/cat.jpg")


# -- a volume that is mounted before the first start


@pytest.mark.parametrize("content", [[], ["lost+found"]], ids=["empty", "as mkfs leaves it"])
async def test_a_volume_that_was_mounted_for_variants_is_no_other_catalogs(
    local_blobs: LocalBlobs, root: Path, content: list[str]
) -> None:
    for name in content:
        (root / "variants" / name).mkdir(parents=True)
    (root / "variants").mkdir(exist_ok=True)

    await local_blobs.bind("first", catalog_is_new=True)

    assert (root / ".media-root.json").exists()


async def test_what_a_file_check_finds_is_nobodys_variant(local_blobs: LocalBlobs, root: Path) -> None:
    for area in ("variants", "uploads"):
        (root / area / "lost+found").mkdir(parents=True)
        (root / area / "lost+found/#12").write_bytes(b"x")
        (root / area / "lost+found").chmod(0)

        assert await listed(local_blobs, area) == []


# -- the probe, which stands for all that a worker does


@pytest.mark.parametrize("folder", ["variants", "staging"])
async def test_a_probe_finds_a_folder_that_cannot_be_written(
    local_blobs: LocalBlobs, root: Path, folder: str
) -> None:
    await local_blobs.probe()
    shutil.rmtree(root / folder)
    (root / folder).write_bytes(b"")

    with pytest.raises(BlobsUnavailable, match=folder):
        await local_blobs.probe()


async def test_a_probe_finds_originals_that_cannot_be_entered(local_blobs: LocalBlobs, root: Path) -> None:
    (root / "uploads").symlink_to(root / "not-mounted")

    with pytest.raises(BlobsUnavailable, match="uploads"):
        await local_blobs.probe()


async def test_a_probe_leaves_nothing_that_anybody_sees(local_blobs: LocalBlobs, elsewhere: Path) -> None:
    await asyncio.gather(*(local_blobs.probe() for _ in range(4)))

    assert [file for file in elsewhere.rglob("*") if file.is_file()] == []
    assert await listed(local_blobs, "variants") == []


@pytest.mark.usefixtures("elsewhere")
async def test_a_probe_works_where_that_of_another_worker_removes_its_file(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.rename

    def removed_at_once(name: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        real(name, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if target == ".media-probe":
            os.unlink(target, dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", removed_at_once)
    await local_blobs.probe()


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("call", ["mkdir", "rename", "fsync"])
async def test_a_probe_that_fails_in_the_same_way_says_the_same(root: Path, call: str, number: int) -> None:
    said = []
    async with open_local(root, create=True) as blobs:
        await blobs.probe()
    for _ in range(2):
        async with open_local(root, create=True) as blobs:
            with failing(call, number), pytest.raises(BlobsUnavailable) as caught:
                await blobs.probe()
            said.append(str(caught.value))

    assert said[0] == said[1]


def test_the_first_writers_of_a_new_root_make_its_areas_together(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        for number in range(100):
            (tmp_path / str(number)).mkdir()
            root = Root(tmp_path / str(number), os.open(tmp_path / str(number), os.O_RDONLY))
            starting = threading.Barrier(16)
            list(pool.map(lambda _, root=root, starting=starting: first_write(root, starting), range(16)))
            root.close()


def first_write(root: Root, starting: threading.Barrier) -> None:
    starting.wait()
    with root.folder(["uploads"], create=True):
        pass
