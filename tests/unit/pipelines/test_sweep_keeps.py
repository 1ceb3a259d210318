"""What a sweep leaves where it is, each kind beside one true orphan, which goes."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from pipelines.sweep.applying import apply_plan
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper
from pipelines.sweep.trash import restore
from storage.blobs.local import LocalBlobs, open_local
from storage.catalog.opening import Catalog
from storage.catalog.records import Original, Ready, StoredVariant
from tests.support.catalogs import claim, commit, take, upload_event
from tests.support.sweeps import GRACE_S, Clock, InstallationStub, put, recorded, sweeper_on


@dataclass
class AgingRoot:
    """A root and its catalog, in which time can go by."""

    catalog: Catalog
    blobs: LocalBlobs
    root: Path
    stack: AsyncExitStack
    clock: Clock

    @property
    def sweeper(self) -> Sweeper:
        return sweeper_on(self.catalog, self.blobs, installation=InstallationStub(), now=self.clock)

    async def put(self, key: str | None = None) -> Path:
        return self.root / await put(self.blobs, key)

    async def record(self, *paths: Path) -> None:
        await recorded(self.catalog, [str(path.relative_to(self.root)) for path in paths])

    def after(self, older: Path) -> float:
        """The time that the file system gives to a new file, once that is later than that of `older`."""
        probe = self.root / "probe"
        while True:
            probe.write_bytes(b"")
            born = probe.stat().st_ctime
            probe.unlink()
            if born > older.stat().st_ctime:
                return born

    def only_grows_old(self, older: Path, born: float) -> None:
        """Let so much time go by that `older` is old enough, and what came at `born` or later is not."""
        now = (older.stat().st_ctime + born) / 2 + GRACE_S
        self.clock.stop_at(now)


@pytest.fixture
async def installation(
    catalog: Catalog, local_blobs: LocalBlobs, root: Path, clock: Clock
) -> AsyncIterator[AgingRoot]:
    async with AsyncExitStack() as stack:
        yield AgingRoot(catalog, local_blobs, root, stack, clock)


async def an_original(installation: AgingRoot) -> Path:
    return await installation.put("uploads/2026/11/cat.jpg")


async def an_original_with_the_name_of_a_variant(installation: AgingRoot) -> Path:
    return await installation.put(f"uploads/variants/ab/cd/{uuid4()}.jpg")


async def a_variant(installation: AgingRoot, which: int) -> Path:
    made = [await installation.put() for _ in range(3)]
    await installation.record(*made)
    return made[which]


async def a_superseded_variant(installation: AgingRoot) -> Path:
    """It is served for as long as the retention says, which is not over."""
    old, new = await installation.put(), await installation.put()
    key = str(old.relative_to(installation.root))
    for ms, path in enumerate((old, new), 1):
        await take(installation.catalog, upload_event(ms))
        made = StoredVariant("thumb", str(path.relative_to(installation.root)), 1, 1, 7, "f" * 64)
        original = Original("stamp", "0" * 64, 3, "jpeg", 10, 10)
        await commit(installation.catalog, Ready(await claim(installation.catalog), original, [made]))
    assert (await installation.catalog.sweeps.find_rows([key]))[key].superseded_ms is not None
    return old


async def a_name_that_is_not_ours(installation: AgingRoot) -> Path:
    return await installation.put("variants/ab/cd/README.txt")


async def a_variant_in_anothers_folder(installation: AgingRoot) -> Path:
    return await installation.put("variants/ab/cd/01234567-89ab-4cde-8f01-23456789abcd.jpg")


OLD: dict[str, Callable[[AgingRoot], Awaitable[Path]]] = {
    "an original": an_original,
    "an original that looks like a variant": an_original_with_the_name_of_a_variant,
    "the first variant": lambda installation: a_variant(installation, 0),
    "the second variant": lambda installation: a_variant(installation, 1),
    "the third variant": lambda installation: a_variant(installation, 2),
    "an unknown file": a_name_that_is_not_ours,
    "a variant where none belongs": a_variant_in_anothers_folder,
}


async def published_and_not_committed(installation: AgingRoot) -> Path:
    return await installation.put()


async def with_an_old_mtime(installation: AgingRoot) -> Path:
    """It came a moment ago, by `cp -p` or `mv`, with the time that it had elsewhere."""
    path = await installation.put()
    os.utime(path, (0, 0))
    return path


async def in_staging(installation: AgingRoot) -> Path:
    other = await installation.stack.enter_async_context(open_local(installation.root, create=False))
    [staged] = await installation.stack.enter_async_context(other._stage(1))
    os.write(staged.fd, b"half")
    return Path(os.readlink(f"/proc/self/fd/{staged.fd}"))


YOUNG: dict[str, Callable[[AgingRoot], Awaitable[Path]]] = {
    "a young file": published_and_not_committed,
    "an upload in flight, between rename and commit": published_and_not_committed,
    "a file with an old mtime that arrived just now": with_an_old_mtime,
    "a file in staging": in_staging,
    "a superseded variant": a_superseded_variant,
}


async def sweep(installation: AgingRoot) -> None:
    await apply_plan((await make_plan(installation.sweeper)).id, installation.sweeper)


@pytest.mark.fault(49)
@pytest.mark.parametrize("kind", OLD.values(), ids=OLD.keys())
async def test_an_old_file_of_this_kind_stays_beside_an_orphan_that_goes(
    installation: AgingRoot, kind: Callable[[AgingRoot], Awaitable[Path]]
) -> None:
    await installation.record(await installation.put())
    stays, orphan = await kind(installation), await installation.put()
    inode = stays.stat().st_ino
    installation.clock.hours_go_by()
    await sweep(installation)

    assert not orphan.exists()
    assert stays.stat().st_ino == inode


@pytest.mark.fault(49)
@pytest.mark.parametrize("kind", YOUNG.values(), ids=YOUNG.keys())
async def test_a_young_file_of_this_kind_stays_beside_an_orphan_that_goes(
    installation: AgingRoot, kind: Callable[[AgingRoot], Awaitable[Path]]
) -> None:
    await installation.record(await installation.put())
    orphan = await installation.put()
    born = installation.after(orphan)
    stays = await kind(installation)
    inode = stays.stat().st_ino
    installation.only_grows_old(orphan, born)
    await sweep(installation)

    assert not orphan.exists()
    assert stays.stat().st_ino == inode


@pytest.mark.fault(49)
async def test_a_restored_file_stays_beside_an_orphan_that_goes(installation: AgingRoot) -> None:
    await installation.record(await installation.put())
    file = await installation.put()
    eager = replace(installation.sweeper, grace_s=0)
    plan = await make_plan(eager)
    orphan = await installation.put()
    born = installation.after(orphan)
    taken = await apply_plan(plan.id, eager)
    assert await restore(plan.id, eager) == taken["orphan"] == 1
    installation.only_grows_old(orphan, born)
    await sweep(installation)

    assert not orphan.exists()
    assert file.read_bytes() == b"picture"
