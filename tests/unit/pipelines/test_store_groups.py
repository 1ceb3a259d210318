"""Large uploads are stored together while more of them wait; nobody waits who was sent alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.batch import process_uploads
from pipelines.batch_report import BatchReport
from pipelines.formats import MIB
from pipelines.metrics import Metrics
from pipelines.sandbox import Sandbox
from pipelines.sandbox.groups import SMALL_BYTES
from pipelines.sandbox.rooms import Patience, Rooms
from pipelines.sandbox.store_groups import MOST_STORED_TOGETHER, StoreGroups
from pipelines.slots import Slots
from storage.blobs.memory import MemoryBlobs
from storage.catalog.opening import Catalog
from tests.support.batches import Uploads, batch_context, on_one_job
from tests.support.holders import Holders
from tests.support.metrics import RecordedMetrics
from tests.support.sandboxes import jpeg

LARGE = SMALL_BYTES + 1
LONGEST_S = 60.0


class Uploading:
    """Uploads in their rooms, which are rendered when the test says so, and then stored."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.groups = StoreGroups(LONGEST_S, clock=lambda: self.now_s)
        self.holders = Holders()
        self.rendered: dict[str, asyncio.Event] = {}
        self.waits: dict[str, tuple[int, bool]] = {}
        self.stopping = asyncio.Event()

    @property
    def stored(self) -> list[str]:
        return sorted(self.holders.inside)

    async def begin(self, *names: str) -> None:
        for name in names:
            self.rendered[name] = asyncio.Event()
            await self.holders.enter(name, self._upload(name))

    async def render(self, name: str, variant_bytes: int = 1000, *, more_wait: bool = True) -> list[str]:
        """The upload has been rendered; returns what is stored then."""
        self.waits[name] = variant_bytes, more_wait
        self.rendered[name].set()
        await self.holders.settle()
        return self.stored

    async def render_each(self, names: str, apart_s: float) -> list[int]:
        """They are rendered that far apart; returns how many of all that were begun are stored after each."""
        stored = []
        for name in names:
            self.now_s += apart_s
            stored.append(len(await self.render(name)))
        return stored

    @asynccontextmanager
    async def _upload(self, name: str) -> AsyncIterator[None]:
        with self.groups.work():
            await self.rendered[name].wait()
            variant_bytes, more_wait = self.waits[name]
            await self.groups.join(variant_bytes, more_wait=more_wait, stopping=self.stopping)
        yield


@pytest.fixture
def uploading() -> Uploading:
    return Uploading()


async def test_uploads_are_stored_together_while_more_of_them_wait(uploading: Uploading) -> None:
    names = "abcd"[:MOST_STORED_TOGETHER]
    await uploading.begin(*names, "e")
    stored = [await uploading.render(name) for name in names]

    assert stored == [[], [], [], list(names)]


async def test_an_upload_that_has_none_behind_it_is_stored_at_once_and_takes_the_others_along(
    uploading: Uploading,
) -> None:
    await uploading.begin("a", "b", "c")
    before = await uploading.render("a")

    assert (before, await uploading.render("b", more_wait=False)) == ([], ["a", "b"])


async def test_an_upload_waits_for_nobody_where_no_other_is_at_work(uploading: Uploading) -> None:
    await uploading.begin("a")

    assert await uploading.render("a") == ["a"]


async def test_who_waits_for_an_upload_that_fails_is_stored_without_it(uploading: Uploading) -> None:
    await uploading.begin("a", "b")
    before = await uploading.render("a")
    await uploading.holders.give_up("b")

    assert (before, uploading.stored) == ([], ["a"])


async def test_a_cancelled_upload_is_none_of_those_that_are_stored_together(uploading: Uploading) -> None:
    await uploading.begin(*"abcde")
    for name in "abc":
        await uploading.render(name)
    await uploading.holders.give_up("b")

    assert (await uploading.render("d"), await uploading.render("e")) == ([], ["a", "c", "d", "e"])


async def test_no_upload_waits_once_those_that_wait_take_much_memory(uploading: Uploading) -> None:
    await uploading.begin("a", "b", "c")
    before = await uploading.render("a", 3 * MIB)

    assert (before, await uploading.render("b", 2 * MIB)) == ([], ["a", "b"])


async def test_who_waits_is_stored_once_the_worker_stops_and_nobody_waits_then(uploading: Uploading) -> None:
    await uploading.begin("a", "b", "c")
    before = await uploading.render("a")
    uploading.stopping.set()
    await uploading.holders.settle()

    assert (before, uploading.stored, await uploading.render("b")) == ([], ["a"], ["a", "b"])


async def test_nothing_goes_on_waiting_where_all_that_waited_are_cancelled(uploading: Uploading) -> None:
    await uploading.begin("b")
    before = asyncio.all_tasks()
    await uploading.begin("a")
    await uploading.render("a")
    await uploading.holders.give_up("a")

    assert asyncio.all_tasks() == before


async def test_uploads_in_their_rooms_wait_for_no_others_once_the_worker_stops() -> None:
    rooms, holders, stopping = patient_rooms(), Holders(), asyncio.Event()
    async with rooms.room(LARGE, "mia"), rooms.room(LARGE, "mia"):
        others = rooms.await_others(LARGE, 1000, "mia", Patience(stopping=stopping), more_wait=True)
        waiting = asyncio.create_task(others)
        await holders.settle()
        waited = not waiting.done()
        stopping.set()
        await holders.settle()

    assert (waited, waiting.done()) == (True, True)


@pytest.mark.parametrize(
    ("apart", "stored"),
    [
        pytest.param(0.24, [0, 0, 0, 4, 4, 4, 4, 8], id="fours"),
        pytest.param(0.40, [0, 0, 3, 3, 3, 6, 6, 6], id="threes"),
        pytest.param(0.80, [0, 2, 2, 4, 4, 6, 6, 8], id="twos"),
        pytest.param(1.10, [1, 2, 3, 4, 5, 6, 7, 8], id="each alone"),
    ],
)
async def test_uploads_wait_only_for_those_that_are_expected_in_time(
    uploading: Uploading, apart: float, stored: list[int]
) -> None:
    await uploading.begin(*"abcdefghi")

    assert await uploading.render_each("abcdefgh", apart * LONGEST_S) == stored


async def test_uploads_wait_for_each_other_again_once_they_are_rendered_faster(uploading: Uploading) -> None:
    await uploading.begin(*"abcdefghi")
    slow = await uploading.render_each("abc", 2 * LONGEST_S)

    assert (slow, await uploading.render_each("defgh", 0.01)) == ([1, 2, 3], [4, 4, 4, 4, 8])


async def test_a_pause_in_which_nothing_is_at_work_says_nothing_of_how_fast_uploads_are(
    uploading: Uploading,
) -> None:
    await uploading.begin("a")
    await uploading.render("a")
    await uploading.holders.leave("a")
    uploading.now_s += 3600
    await uploading.begin("b", "c")

    assert await uploading.render_each("bc", 0.01) == [0, 2]


async def test_an_upload_waits_for_a_slow_one_no_longer_than_so_many_seconds() -> None:
    groups = StoreGroups(longest_s=0.01)
    with groups.work(), groups.work():
        await groups.join(1000, more_wait=True)


def patient_rooms() -> Rooms:
    return Rooms(1, store_groups=StoreGroups(LONGEST_S))


@asynccontextmanager
async def stored_from(rooms: Rooms, owner: str = "mia", *, more_wait: bool = False) -> AsyncIterator[None]:
    await rooms.await_others(LARGE, 1000, owner, more_wait=more_wait)
    yield


@pytest.fixture
def holders() -> Holders:
    return Holders()


@pytest.mark.parametrize("source_bytes", [SMALL_BYTES, LARGE])
async def test_only_large_uploads_are_waited_for_and_wait(source_bytes: int) -> None:
    rooms = patient_rooms()
    async with rooms.room(source_bytes), rooms.room(SMALL_BYTES):
        await rooms.await_others(source_bytes, 1000, more_wait=True)


@pytest.mark.parametrize(("last_bytes", "waits"), [(SMALL_BYTES, False), (LARGE, True)])
async def test_who_waits_for_a_place_counts_only_where_the_last_of_its_owner_was_large(
    holders: Holders, last_bytes: int, *, waits: bool
) -> None:
    rooms = patient_rooms()
    async with rooms.room(LARGE, "mia"), rooms.room(LARGE, "tom"), rooms.room(last_bytes, "mia"):
        await holders.enter("mia", stored_from(rooms, more_wait=True))

        assert bool(holders.inside) is not waits


@pytest.mark.parametrize("owner", ["mia", "tom"])
async def test_an_upload_waits_for_those_of_its_owner_that_wait_for_a_room(
    holders: Holders, owner: str
) -> None:
    rooms = patient_rooms()
    for number in range(rooms.few + 1):
        await holders.enter(f"mia {number}", rooms.room(LARGE, "mia"))
    async with rooms.room(SMALL_BYTES, "mia"), rooms.room(LARGE, "tom"):
        await holders.enter("rendered", stored_from(rooms, owner))

    assert ("rendered" in holders.inside) is (owner == "tom")


async def test_an_owner_waits_for_a_place_as_long_as_none_is_given_to_it() -> None:
    slots, holders = Slots(1), Holders()
    await holders.enter("mia", slots.one("mia"))
    await holders.enter("mia again", slots.one("mia"))
    before = slots.are_awaited_by("mia"), slots.are_awaited_by("tom"), slots.are_free_for("tom")
    await holders.leave("mia")

    assert (before, slots.are_awaited_by("mia")) == ((True, False, False), False)


class CountingBlobs(MemoryBlobs):
    """Counts how many callers store something at the same moment."""

    storing = most = 0

    async def store(self, contents: Sequence[tuple[str, bytes]]) -> None:
        self.storing += 1
        await asyncio.sleep(0)
        self.most = max(self.most, self.storing)
        await super().store(contents)
        self.storing -= 1


@pytest.fixture
def blobs() -> CountingBlobs:
    return CountingBlobs()


@pytest.fixture
async def work_on_large(
    catalog: Catalog, root: Path, sandbox: Sandbox, blobs: CountingBlobs, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Metrics], Awaitable[BatchReport]]:
    """Work on a job of large uploads, one more than are stored together; returns its report."""

    async def work_on_large(metrics: Metrics) -> BatchReport:
        monkeypatch.setattr(sandbox, "rooms", patient_rooms())
        uploads = Uploads(catalog, blobs, root)
        picture = jpeg() + bytes(SMALL_BYTES)
        ids = [await uploads.put(f"{n}.jpg", picture) for n in range(MOST_STORED_TOGETHER + 1)]
        context = batch_context(catalog, blobs, sandbox, slots=MOST_STORED_TOGETHER)
        return await process_uploads(ids, await on_one_job(catalog, ids), replace(context, metrics=metrics))

    return work_on_large


async def test_large_uploads_of_a_job_are_stored_together_before_others_of_it_begin(
    work_on_large: Callable[[Metrics], Awaitable[BatchReport]], blobs: CountingBlobs
) -> None:
    report = await work_on_large(Metrics())

    ready = Counter(ready=MOST_STORED_TOGETHER + 1)
    assert (report.outcomes, blobs.most) == (ready, MOST_STORED_TOGETHER)


async def test_the_wait_for_those_that_are_stored_with_it_is_a_stage_of_an_upload(
    work_on_large: Callable[[Metrics], Awaitable[BatchReport]],
) -> None:
    metrics = RecordedMetrics()
    report = await work_on_large(metrics)

    waits_ms = [ms["wait"] for ms in metrics.stages if "wait" in ms]
    assert len(waits_ms) == MOST_STORED_TOGETHER - 1
    assert report.ms["wait"] > sum(waits_ms) > 0
