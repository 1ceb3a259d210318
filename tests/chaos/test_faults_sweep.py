"""Sweeps beside writers, beside each other, on a disk that fails, and killed at any step."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import pytest

from pipelines.sweep import applying
from pipelines.sweep.applying import apply_plan
from pipelines.sweep.plan import Plan
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper, SweepRefused
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, Original, Ready, State, StoredVariant
from storage.errors import BlobsUnavailable
from storage.keys import MARKER, variant_key
from tests.chaos import steps
from tests.chaos.conftest import FaultPlaces
from tests.chaos.crashes import Scenario, die_at_each, record
from tests.chaos.place import FaultPlace
from tests.support.catalogs import ON_BOTH, claim, commit, delete_event, take, upload, upload_event, work
from tests.support.sweeps import Clock, InstallationStub, put, sweeper_on

HOUR_S = 3600
_NEIGHBOUR = 0


def _key(number: int) -> str:
    return variant_key(uuid5(NAMESPACE_OID, str(number)), "jpeg")


async def _put(blobs: LocalBlobs, *numbers: int) -> list[str]:
    return [await put(blobs, _key(number)) for number in numbers]


def _ready(of: Claim, keys: Sequence[str]) -> Ready:
    original = Original("stamp", "0" * 64, 3, "jpeg", 10, 10)
    return Ready(
        of, original, [StoredVariant(f"v{n}", key, 10, 10, 7, "f" * 64) for n, key in enumerate(keys)]
    )


@pytest.fixture
async def sweeper(catalog: Catalog, local_blobs: LocalBlobs, clock: Clock) -> Sweeper:
    """One whose catalog has an upload already: beside an empty one, no sweep touches anything."""
    neighbour = uuid5(NAMESPACE_OID, "neighbour")
    await take(catalog, upload_event(1, neighbour, "uploads/neighbour.jpg"))
    await commit(catalog, _ready(await claim(catalog, neighbour), await _put(local_blobs, _NEIGHBOUR)))
    return _sweeper(catalog, local_blobs, clock)


def _sweeper(catalog: Catalog, blobs: LocalBlobs, clock: Clock) -> Sweeper:
    return sweeper_on(catalog, blobs, HOUR_S, HOUR_S, installation=InstallationStub(), now=clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def _sweep(sweeper: Sweeper) -> Plan:
    plan = await make_plan(sweeper)
    if plan.counts:
        await apply_plan(plan.id, sweeper)
    return plan


def _there(root: Path) -> set[str]:
    """The files, but for the neighbour's, which is always there."""
    found = {str(path.relative_to(root)) for path in root.glob("variants/**/*.jpg")}
    return found.difference({_key(_NEIGHBOUR)}) if _key(_NEIGHBOUR) in found else {"the neighbour's is gone"}


@pytest.mark.fault(10)
async def test_what_a_writer_that_a_deletion_has_fenced_publishes_late_is_an_orphan(
    catalog: Catalog, local_blobs: LocalBlobs, root: Path, sweeper: Sweeper, clock: Clock
) -> None:
    await take(catalog, upload_event(1))
    frozen = await claim(catalog, holder="frozen")
    await take(catalog, delete_event(2))
    await work(catalog)
    late = await _put(local_blobs, 1, 2, 3)

    fenced = await commit(catalog, _ready(frozen, late))

    young = await _sweep(sweeper)
    assert (fenced.state, young.counts, _there(root)) == (None, {}, set(late))
    clock.hours_go_by()
    assert (await _sweep(sweeper)).counts == {"orphan": 3}
    assert _there(root) == set()
    assert (await upload(catalog)).state is State.DELETED


def _hook(owner: object, name: str, when: str, act: Callable[[], Awaitable[None]]) -> None:
    """Let `act` happen just before or after the first call of that method."""
    original = getattr(owner, name)
    calls = iter([act])

    async def hooked(*args: object, **kwargs: object) -> object:
        first = next(calls, None)
        if first and when == "before":
            await first()
        result = await original(*args, **kwargs)
        if first and when == "after":
            await first()
        return result

    setattr(owner, name, hooked)


class _HalfListed(LocalBlobs):
    """A storage that stops answering in the middle of a listing."""

    async def list(
        self, prefix: str, after: str = "", *, on_misnamed: Callable[[str], object] = lambda _: None
    ) -> AsyncGenerator[Sequence[str], None]:
        async for page in super().list(prefix, after, on_misnamed=on_misnamed):
            yield page[:2]
            raise BlobsUnavailable("the storage has stopped answering")


@pytest.mark.fault(47)
async def test_a_listing_that_breaks_off_moves_nothing(
    catalog: Catalog,
    local_blobs: LocalBlobs,
    root: Path,
    sweeper: Sweeper,
    clock: Clock,
) -> None:
    orphans = await _put(local_blobs, 1, 2, 3, 4)
    clock.hours_go_by()
    half = _HalfListed.__new__(_HalfListed)
    vars(half).update(vars(local_blobs))

    with pytest.raises(BlobsUnavailable):
        await _sweep(replace(sweeper, blobs=half))

    assert _there(root) == set(orphans)


@pytest.mark.fault(51)
@ON_BOTH
@pytest.mark.rotating(1)
async def test_a_sweeper_that_has_lost_its_lease_touches_nothing_more(
    catalog: Catalog,
    local_blobs: LocalBlobs,
    root: Path,
    sweeper: Sweeper,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(applying, "_GROUP", 1)
    await _put(local_blobs, 1, 2, 3, 4)
    clock.hours_go_by()
    plan = await make_plan(sweeper)

    async def another_takes_over() -> None:
        await catalog.sweeps.end_lease("me")
        assert await catalog.sweeps.lease("another", 60)

    _hook(catalog.sweeps, "clear_marks", "after", another_takes_over)

    with pytest.raises(SweepRefused):
        await apply_plan(plan.id, sweeper)

    assert len(_there(root)) == 3


def _an_orphan_beside_an_upload(place: FaultPlace, number: int) -> None:
    if not (place.root / MARKER).exists():
        worker = place.start_worker()
        place.await_state("ready", *place.upload(1000))
        worker.stop()
    path = place.root / _key(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nobody knows me")


def _is_in_the_trash(place: FaultPlace, number: int) -> bool:
    kept = list(place.root.glob(f"trash/sweep-*/{_key(number)}"))
    return len(kept) == 1 and not (place.root / _key(number)).exists()


SWEEPING = Scenario(
    steps.SWEEPING,
    _is_in_the_trash,
    prepare=_an_orphan_beside_an_upload,
    words=("sweep", "--apply"),
    from_the_start=True,
)


@pytest.mark.fault(27, 50)
@pytest.mark.campaign
@ON_BOTH
def test_a_sweep_that_is_killed_at_any_step_is_finished_by_the_next(
    places: FaultPlaces, database_kind: str
) -> None:
    cases = record(places("recorded"), SWEEPING)
    assert {step for step, _, _ in cases} == steps.SWEEPING.keys()

    # A worker that connects to Postgres takes longer to start.
    assert die_at_each(places, SWEEPING, cases, at_once=8 if database_kind == "sqlite" else 3) == []
