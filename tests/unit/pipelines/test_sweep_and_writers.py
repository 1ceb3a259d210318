"""A sweep and a writer at the same time: whatever comes between which steps, no row is without its file."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from pipelines.sweep.applying import apply_plan
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper
from pipelines.sweep.trash import purge
from storage.blobs import Existence, Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, Original, Ready, State, StoredVariant
from storage.catalog.tables import uploads
from tests.support.blobs import is_there, listed, stat_of
from tests.support.catalogs import claim, commit, take, try_claim, upload_event
from tests.support.sweeps import new_key, put, sweeper_on

on_all = pytest.mark.parametrize(
    ("database_kind", "blobs"),
    [("sqlite", "memory"), ("sqlite", "files"), ("sqlite", "bucket"), ("postgres", "bucket")],
    indirect=["blobs"],
)

STEPS = 3  # of a writer: it claims, publishes, commits
GATES = (
    "blobs.list",
    "sweeps.keys",
    "blobs.stat",
    "sweeps.mark_for_deletion",
    "sweeps.mark_superseded",
    "blobs.move",
    "sweeps.clear_marks",
    "sweeps.find_rows",
    "blobs.delete",
)


@dataclass
class UploadWriter:
    """A worker that makes one variant of one upload, step by step."""

    catalog: Catalog
    blobs: Storage
    id: UUID
    key: str
    is_ready: bool = False
    _claim: Claim | None = None
    _step: int = 0

    async def step(self) -> None:
        """The next of its steps: a claim, a publication, a commit."""
        await (self._take, self._publish, self._commit)[self._step]()
        self._step += 1

    async def finish(self) -> None:
        """The steps that are left, and all of them again for as long as the writer has to come back."""
        while self._step < STEPS:
            await self.step()
        while True:
            async with self.catalog.database.writing() as connection:
                await connection.execute(update(uploads).values(not_before_ms=0))
            self._claim = await try_claim(self.catalog, self.id)
            if self._claim is None:
                return
            await self._publish()
            await self._commit()

    async def _take(self) -> None:
        self._claim = await claim(self.catalog, self.id)

    async def _publish(self) -> None:
        assert self._claim is not None
        stored = [one.key for one in self._claim.upload.variants]
        if self.key not in stored or await stat_of(self.blobs, self.key) is Existence.MISSING:
            await put(self.blobs, self.key)

    async def _commit(self) -> None:
        assert self._claim is not None
        committed = await commit(self.catalog, ready_with(self._claim, self.key))
        self.is_ready = committed.state is State.READY


def ready_with(of: Claim, key: str) -> Ready:
    variant = StoredVariant("thumb", key, 10, 10, 7, "f" * 64)
    return Ready(of, Original("stamp", "0" * 64, 3, "jpeg", 10, 10), [variant])


class Gated:
    """A part of the sweep's stores that lets somebody else in before each of some calls."""

    def __init__(self, name: str, part: Any, gate: Callable[[], Awaitable[None]]) -> None:
        self._name, self._part, self._gate = name, part, gate

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._part, name)
        if f"{self._name}.{name}" not in GATES:
            return call

        async def pages(*args: Any, **kwargs: Any) -> Any:
            await self._gate()
            async for page in call(*args, **kwargs):
                yield page

        async def gated(*args: Any, **kwargs: Any) -> Any:
            await self._gate()
            return await call(*args, **kwargs)

        return pages if f"{self._name}.{name}" == "blobs.list" else gated


@dataclass
class Interleaving:
    """One writer and one sweep with the smallest grace, where the writer's steps come at given gates."""

    sweeper: Sweeper
    writer: UploadWriter
    at: Sequence[int]
    gates: int = 0
    touched: list[int] = field(default_factory=list)  # at which gates the file of a row was away
    _left: list[int] = field(default_factory=list)

    async def run(self) -> None:
        """Plan and apply, the writer in between, and the rest of the writer's steps after it."""
        self._left = list(self.at)
        blobs: Any = Gated("blobs", self.sweeper.blobs, self._gate)
        sweeps: Any = Gated("sweeps", self.sweeper.sweeps, self._gate)
        gated = replace(self.sweeper, blobs=blobs, sweeps=sweeps)
        plan = await make_plan(gated)
        if plan.counts:
            await apply_plan(plan.id, gated)
        await self.writer.finish()

    async def _gate(self) -> None:
        if self.writer.is_ready and not await is_there(self.writer.blobs, self.writer.key):
            self.touched.append(self.gates)
        while self._left and self._left[0] <= self.gates:
            self._left.pop(0)
            await self.writer.step()
        self.gates += 1


@pytest.fixture
def sweeper(catalog: Catalog, blobs: Storage) -> Sweeper:
    return sweeper_on(catalog, blobs, grace_s=0, retention_s=0)


async def requested(catalog: Catalog, upload_id: UUID, ms: int) -> None:
    await take(catalog, upload_event(ms, upload_id, f"uploads/{upload_id}.jpg"))


async def nothing_there(catalog: Catalog, blobs: Storage, upload_id: UUID, key: str) -> None:
    await requested(catalog, upload_id, 1)


async def an_orphan_of_that_name(catalog: Catalog, blobs: Storage, upload_id: UUID, key: str) -> None:
    await put(blobs, key)
    await requested(catalog, upload_id, 1)


async def superseded(catalog: Catalog, blobs: Storage, upload_id: UUID, key: str) -> None:
    for ms, place in enumerate((key, new_key()), 1):
        await requested(catalog, upload_id, ms)
        await put(blobs, place)
        await commit(catalog, ready_with(await claim(catalog, upload_id), place))
    await requested(catalog, upload_id, 3)


async def missing(catalog: Catalog, blobs: Storage, upload_id: UUID, key: str) -> None:
    await requested(catalog, upload_id, 1)
    await commit(catalog, ready_with(await claim(catalog, upload_id), key))
    await requested(catalog, upload_id, 2)


def interleavings(gates: int, share: int) -> Iterator[tuple[int, ...]]:
    """Every order of the writer's steps among so many gates, or one in `share` of them."""
    for number, at in enumerate(combinations_with_replacement(range(gates + 1), STEPS)):
        if number % share == 0:
            yield at


async def in_every_order(
    sweeper: Sweeper,
    catalog: Catalog,
    blobs: Storage,
    before: Callable[[Catalog, Storage, UUID, str], Awaitable[None]],
    share: int,
) -> list[str]:
    """What went wrong in any order of the steps."""

    async def meet(at: Sequence[int]) -> tuple[Interleaving, str]:
        upload_id, key = uuid4(), new_key()
        await before(catalog, blobs, upload_id, key)
        interleaving = Interleaving(sweeper, UploadWriter(catalog, blobs, upload_id, key), at)
        await interleaving.run()
        return interleaving, key

    await put(blobs, live := new_key())
    await requested(catalog, lives := uuid4(), 1)
    await commit(catalog, ready_with(await claim(catalog, lives), live))
    gates = (await meet((0, 0, 99)))[0].gates
    wrong = []
    for at in interleavings(gates, share):
        interleaving, key = await meet(at)
        found = await catalog.reports.find(interleaving.writer.id)
        if found is None or found.state is not State.READY or [one.key for one in found.variants] != [key]:
            wrong.append(f"{at} of {gates}: the upload is {found}")
        wrong += [f"{at} of {gates}: a live file was away at {gate}" for gate in interleaving.touched]
        rows = await catalog.sweeps.keys("", None, 100_000)
        there = await listed(blobs, "variants")
        wrong += [f"{at} of {gates}: {lost} has no file" for lost in set(rows) - set(there)]
    return wrong


def test_every_gate_is_a_verb_of_the_sweeps_stores(sweeper: Sweeper) -> None:
    parts = {"blobs": sweeper.blobs, "sweeps": sweeper.sweeps}

    assert [gate for gate in GATES if not hasattr(parts[gate.split(".")[0]], gate.split(".")[1])] == []


BEFORE = [nothing_there, an_orphan_of_that_name, superseded, missing]


@pytest.mark.fault(44)
@pytest.mark.parametrize("before", BEFORE)
@on_all
@pytest.mark.rotating(3)
async def test_a_writer_between_some_steps_of_a_sweep_keeps_row_and_file_together(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, before: Any, database_kind: str
) -> None:
    share = 24 if database_kind == "sqlite" else 600  # where each order takes half a second
    assert await in_every_order(sweeper, catalog, blobs, before, share) == []


@pytest.mark.fault(44)
@pytest.mark.campaign
@pytest.mark.parametrize("before", BEFORE)
@on_all
async def test_a_writer_between_any_steps_of_a_sweep_keeps_row_and_file_together(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, before: Any, database_kind: str
) -> None:
    share = 1 if database_kind == "sqlite" else 7
    assert await in_every_order(sweeper, catalog, blobs, before, share) == []


@on_all
@pytest.mark.rotating(2)
async def test_a_writer_that_makes_the_same_name_again_between_plan_and_apply_keeps_its_file(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage
) -> None:
    upload_id, key = uuid4(), new_key()
    await put(blobs, live := new_key())
    await requested(catalog, lives := uuid4(), 1)
    await commit(catalog, ready_with(await claim(catalog, lives), live))
    await an_orphan_of_that_name(catalog, blobs, upload_id, key)
    plan = await make_plan(sweeper)
    await UploadWriter(catalog, blobs, upload_id, key).finish()
    before = await blobs.stat([key])

    done = await apply_plan(plan.id, sweeper)

    assert (plan.counts, done.get("orphan", 0)) == ({"orphan": 1}, 0)
    assert await blobs.stat([key]) == before


@pytest.mark.fault(45)
@on_all
@pytest.mark.rotating(2)
async def test_a_worker_that_was_frozen_while_its_file_was_taken_and_purged_publishes_it_again(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage
) -> None:
    upload_id, key = uuid4(), new_key()
    await put(blobs, live := new_key())
    await requested(catalog, lives := uuid4(), 1)
    await commit(catalog, ready_with(await claim(catalog, lives), live))
    await requested(catalog, upload_id, 1)
    frozen = UploadWriter(catalog, blobs, upload_id, key)
    await frozen.step()
    await frozen.step()
    plan = await make_plan(sweeper)
    await apply_plan(plan.id, sweeper)
    await purge(sweeper)
    gone = not await is_there(blobs, key)

    await frozen.finish()

    assert gone
    assert await blobs.get(key) == b"picture"
