"""File systems that lack what others have: what can be done without is done without, and said."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from storage.blobs import staging
from storage.blobs.local import LocalBlobs, open_local
from storage.catalog import place as catalog_place
from storage.catalog.opening import open_catalog
from storage.errors import BlobsUnavailable, FileSystemUnfit
from storage.mounts import file_system_of
from tests.support import file_systems
from tests.support.blobs import listed
from tests.support.file_systems import WORKABLE, Oddity


@pytest.mark.parametrize("oddity", WORKABLE.values(), ids=WORKABLE.keys())
async def test_a_root_there_is_bound_and_takes_files_and_gives_them_back(
    root: Path, oddity: Oddity, monkeypatch: pytest.MonkeyPatch
) -> None:
    oddity(monkeypatch)
    async with open_local(root, create=True) as blobs:
        await blobs.bind("first", catalog_is_new=True)
        await blobs.bind("first", catalog_is_new=False)
        await blobs.prepare()
        await blobs.find_lacks()
        await blobs.store([("variants/ab/a", b"a"), ("variants/ab/b", b"b")])
        await blobs.move("variants/ab/a", "trash/plan/a")
        await blobs.move("trash/plan/a", "variants/ab/b", replace=False)
        await blobs.move("trash/plan/a", "variants/ab/c", replace=False)

        assert await listed(blobs, "variants") == ["variants/ab/b", "variants/ab/c"]
        assert await blobs.get("variants/ab/b") == b"b"
    assert sorted(os.listdir(root)) == [".media-root.json", "staging", "trash", "variants"]
    assert os.listdir(root / "staging") == []


@pytest.mark.parametrize(
    ("oddity", "said"),
    [
        (file_systems.without_folder_fsync, "fsync of a folder"),
        (file_systems.without_links_and_flags, "hard links"),
        (file_systems.with_numbers_of_paths, "inodecalc"),
    ],
)
async def test_what_is_missing_is_said_with_the_folder_and_its_file_system(
    local_blobs: LocalBlobs, root: Path, oddity: Oddity, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await local_blobs.find_lacks() == []
    oddity(monkeypatch)
    [lack] = await local_blobs.find_lacks()

    assert said in lack
    assert f"{root}/variants ({file_system_of(root)})" in lack
    assert [path for path in (root / "variants").rglob("*") if path.is_file()] == []


async def test_modes_that_hide_variants_from_the_web_server_are_said(
    local_blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_systems.without_modes(monkeypatch)  # staged files are nobody else's, and would stay so
    [lack] = await local_blobs.find_lacks()

    assert "web server" in lack


async def test_a_file_system_that_numbers_its_files_anew_at_each_look_is_refused_by_name(
    local_blobs: LocalBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_systems.with_new_numbers(monkeypatch)

    with pytest.raises(FileSystemUnfit, match=rf"{root}/\w+ .*inode"):
        await local_blobs.find_lacks()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
async def test_a_file_system_without_locks_is_refused_by_name(
    local_blobs: LocalBlobs, root: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_fd: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)

    with pytest.raises(FileSystemUnfit, match=f"{root}/staging has no locks"):
        await local_blobs.prepare()
    assert os.listdir(root / "staging") == []


async def test_a_staging_folder_that_is_taken_away_each_time_ends_in_words(
    local_blobs: LocalBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = fcntl.flock, []

    def flock(fd: int, how: int) -> None:
        real(fd, how)
        taken.append(fd)
        shutil.rmtree(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(fcntl, "flock", flock)

    with pytest.raises(BlobsUnavailable, match=f"{root}/staging is taken away"):
        await local_blobs.prepare()
    assert len(taken) == staging._TRIES


# -- which file system a path is on

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:30 / /srv rw,relatime shared:1 - nfs4 server:/srv rw
31 30 0:31 / /srv/local rw - ext4 /dev/vdb rw
32 22 0:32 / /media/a\\040b rw - fuse.sshfs host: rw
33 22 0:33 / /over rw - tmpfs tmpfs rw
34 33 0:34 / /over rw - cifs //server/share rw
35 22 0:35 / /blobs rw - fuse blobfuse2 rw
36 22 0:36 / /disk rw - fuse /dev/sdb1 rw
a line that says nothing
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/media", "nfs4"),
        ("/srvandmore", "ext4"),
        ("/srv/local/media", "ext4"),
        ("/media/a b/c", "fuse.sshfs"),
        ("/over", "cifs"),
        ("/blobs", "fuse.blobfuse2"),
        ("/disk", "fuse"),
    ],
)
def test_a_path_is_on_the_file_system_that_was_mounted_last_and_nearest(
    tmp_path: Path, path: str, kind: str
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)

    assert file_system_of(Path(path), table) == kind


def test_where_the_kernel_says_nothing_nobody_knows(tmp_path: Path) -> None:
    assert file_system_of(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "fuse.mfs", "fuse.seaweedfs", "fuse.juicefs"],
)
async def test_a_catalog_on_a_network_file_system_is_refused_by_name(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 0:9 / / rw - {kind} server:/share rw\n")
    monkeypatch.setattr("storage.mounts.TABLE", table)

    with pytest.raises(FileSystemUnfit, match=rf"is on a network file system \({kind}\).*local disk"):
        async with open_catalog(f"sqlite+aiosqlite:///{tmp_path}/catalog.db"):
            pass
    assert not (tmp_path / "catalog.db").exists()


@pytest.mark.parametrize("kind", ["vboxsf", "fuse.vmhgfs-fuse", "virtiofs", "fakeowner"])
def test_a_catalog_in_a_folder_that_a_host_shares_with_a_virtual_machine_is_refused_by_name(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_file_systems(monkeypatch, tmp_path, f"22 1 0:9 / / rw - {kind} share rw")

    with pytest.raises(FileSystemUnfit, match=rf"another machine shares \({kind}\).*local disk"):
        catalog_place.check_local(tmp_path / "catalog.db")


def test_a_catalog_that_is_mounted_alone_from_a_network_file_system_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "22 1 0:8 / / rw - ext4 /dev/vda rw",
        f"23 22 0:9 /catalog.db {tmp_path}/catalog.db rw - nfs a: rw",
    ]
    with_file_systems(monkeypatch, tmp_path, *lines)

    with pytest.raises(FileSystemUnfit, match=r"network file system \(nfs\)"):
        catalog_place.check_local(tmp_path / "catalog.db")


def with_file_systems(patch: pytest.MonkeyPatch, folder: Path, *lines: str) -> None:
    """The kernel's table of mounts, for this test."""
    (folder / "mountinfo").write_text("".join(f"{line}\n" for line in lines))
    patch.setattr("storage.mounts.TABLE", folder / "mountinfo")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"])
def test_a_catalog_on_an_ordinary_disk_needs_no_trial(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_file_systems(monkeypatch, tmp_path, f"22 1 0:9 / / rw - {kind} /dev/vda rw")
    monkeypatch.setattr("storage.catalog.place.mmap.mmap", _no_device)

    catalog_place.check_local(tmp_path / "catalog.db")


@pytest.mark.parametrize("kind", ["fuse.mergerfs", "exfat", "fuse", "one-of-tomorrow"])
@pytest.mark.parametrize("maps", [True, False])
def test_a_catalog_on_any_other_file_system_needs_maps_of_files(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, *, maps: bool
) -> None:
    with_file_systems(monkeypatch, tmp_path, f"22 1 0:9 / / rw - {kind} a:b rw")
    if not maps:
        monkeypatch.setattr("storage.catalog.place.mmap.mmap", _no_device)
        with pytest.raises(FileSystemUnfit, match=rf"{kind}.*memory"):
            catalog_place.check_local(tmp_path / "catalog.db")
        return

    catalog_place.check_local(tmp_path / "catalog.db")

    assert [path.name for path in tmp_path.iterdir()] == ["mountinfo"]


def _no_device(*_args: object) -> None:
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
