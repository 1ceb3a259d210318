"""Parked uploads: rows without a job, found by owner, and given to one dispatcher each."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4, uuid5

import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.parking import OWNERS
from storage.catalog.records import State, StreamId, Taken, UploadRequested
from tests.support.catalogs import ON_BOTH, delete_event, letter, take, upload

pytestmark = ON_BOTH
_SPACE = uuid4()


def named(owner: str, number: int) -> UUID:
    return uuid5(_SPACE, f"{owner}/{number}")


async def park(catalog: Catalog, *owners: str, first: int = 0) -> Taken:
    """Take an upload of each of these owners, and admit none."""
    events = [
        UploadRequested(StreamId(n), named(owner, n), f"uploads/{owner}/{n}.jpg", "default")
        for n, owner in enumerate(owners, first + 1)
    ]
    pairs = [(event, letter(f"{event.position.ms}-0")) for event in events]
    return await catalog.intake.take(pairs, [], epoch=0, same_stream=True, admit=none)  # type: ignore[return-value]


def none(owners: Sequence[str]) -> Sequence[bool]:
    return [False] * len(owners)


async def work_for(catalog: Catalog, wanted: dict[str, int]) -> tuple[str, Mapping[UUID, str]]:
    """A job with so many of their uploads; without any it has no ID."""
    jobs = await catalog.parking.take(wanted, 1000)
    return next(iter(jobs.items()), ("", {}))


async def test_an_upload_that_is_not_admitted_is_queued_without_a_job(catalog: Catalog) -> None:
    taken = await park(catalog, "mia")

    assert (taken.jobs, taken.parked, taken.owners) == ({}, {"mia"}, {})
    assert (await upload(catalog, named("mia", 1))).state is State.QUEUED
    assert await catalog.parking.owners() == ["mia"]


async def test_each_owner_of_parked_uploads_is_told_once_and_many_page_by_page(catalog: Catalog) -> None:
    await park(catalog, *["leo"] * 3, "mia", "greedy", "mia")

    assert await catalog.parking.owners() == ["greedy", "leo", "mia"]
    assert await catalog.parking.owners(after="greedy") == ["leo", "mia"]
    assert await catalog.parking.owners(after="mia") == []
    assert [await catalog.parking.count(each) for each in ("leo", "mia", "nobody")] == [3, 2, 0]
    await park(catalog, *(f"{each:03}" for each in range(150)), first=10)
    first = await catalog.parking.owners()
    assert first == [f"{each:03}" for each in range(OWNERS)]
    assert (await catalog.parking.owners(first[-1]))[:2] == ["100", "101"]


async def test_an_owner_without_a_name_is_one_too(catalog: Catalog) -> None:
    event = UploadRequested(StreamId(1), uuid4(), "uploads/cat.jpg", "default")
    await catalog.intake.take([(event, letter("1-0"))], [], epoch=0, same_stream=True, admit=none)

    assert await catalog.parking.owners() == [""]
    assert (await work_for(catalog, {"": 1}))[1] == {event.id: ""}


async def test_a_job_gets_the_oldest_uploads_of_each_owner_and_no_more_than_are_wanted(
    catalog: Catalog,
) -> None:
    for n, owner in enumerate(("leo", "leo", "leo", "mia")):
        await park(catalog, owner, first=n)
    job_id, owners = await work_for(catalog, {"leo": 2, "mia": 5, "nobody": 1})

    assert owners == {named("leo", 1): "leo", named("leo", 2): "leo", named("mia", 4): "mia"}
    assert await catalog.claims.claim(named("leo", 1), job_id, "worker") is not None
    assert await catalog.parking.owners() == ["leo"]


async def test_no_job_gets_more_uploads_than_one_may_have(catalog: Catalog) -> None:
    await park(catalog, *["leo"] * 5)
    jobs = await catalog.parking.take({"leo": 5}, 2)

    assert [len(owners) for owners in jobs.values()] == [2, 2, 1]


async def test_of_many_dispatchers_one_gets_each_upload(catalog: Catalog, catalog_url: str) -> None:
    await park(catalog, *["leo"] * 30)
    async with open_catalog(catalog_url) as another:
        both = (catalog, another) * 5
        taken = await asyncio.gather(*(work_for(one, {"leo": 4}) for one in both))

    ids = [each for _, owners in taken for each in owners]
    assert len(ids) == len(set(ids))
    rest = (await work_for(catalog, {"leo": 100}))[1]
    assert {*ids, *rest} == {named("leo", n) for n in range(1, 31)}


async def test_what_is_parked_is_not_overdue_and_once_it_has_a_job_it_is(catalog: Catalog) -> None:
    await park(catalog, "mia")
    parked = await catalog.requeuer.overdue(-1000, 10)
    job_id, _ = await work_for(catalog, {"mia": 1})

    assert parked == []
    [stalled] = await catalog.requeuer.overdue(-1000, 10)
    assert stalled.job_id == job_id


async def test_an_event_for_a_parked_upload_leaves_it_parked_and_wins(catalog: Catalog) -> None:
    await park(catalog, "mia")
    await take(
        catalog,
        UploadRequested(StreamId(9), named("mia", 1), "uploads/mia/1.jpg", "default", {"new": 1}),
    )
    await park(catalog, "leo", first=20)

    assert (await upload(catalog, named("mia", 1))).metadata == {"new": 1}
    assert await catalog.parking.owners() == ["leo", "mia"]


async def test_a_parked_upload_that_is_deleted_is_so_when_its_turn_comes(catalog: Catalog) -> None:
    await park(catalog, "mia")
    taken = await take(catalog, delete_event(9, named("mia", 1)))
    job_id, owners = await work_for(catalog, {"mia": 1})

    assert taken.jobs == {}
    assert owners == {named("mia", 1): "mia"}
    claimed = await catalog.claims.claim(named("mia", 1), job_id, "worker")
    assert claimed is not None
    assert claimed.upload.state is State.DELETING


async def test_what_is_parked_is_counted_with_the_wait_of_the_oldest(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = await catalog.parking.all()
    await park(catalog, "mia", "leo", "leo")
    now_ms = catalog.database.now_ms()
    monkeypatch.setattr(type(catalog.database), "now_ms", lambda _: now_ms + 60_000)
    await park(catalog, "leo", first=9)
    found = await catalog.parking.all()

    assert (nobody.count, nobody.oldest_ms) == (0, 0)
    assert found.count == 4
    assert 60_000 <= found.oldest_ms < 65_000


@asynccontextmanager
async def later(catalog: Catalog, by_s: int) -> AsyncIterator[None]:
    """The clock of that catalog is ahead by so much meanwhile."""
    now_ms = catalog.database.now_ms()
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr(type(catalog.database), "now_ms", lambda _: now_ms + by_s * 1000)
        yield


async def test_the_oldest_is_told_however_many_owners_are_before_it_in_the_alphabet(
    catalog: Catalog,
) -> None:
    await park(catalog, "zoe")
    async with later(catalog, 60):
        await park(catalog, *(f"{each:03}" for each in range(OWNERS + 20)), "zoe", first=9)
        found, longest = await catalog.parking.all(), await catalog.parking.longest()

    assert 60_000 <= found.oldest_ms < 65_000
    assert next(iter(longest)) == "zoe"
    assert 60_000 <= longest["zoe"] < 65_000


async def test_each_owner_is_told_with_the_wait_of_its_own_oldest(catalog: Catalog) -> None:
    await park(catalog, "mia")
    async with later(catalog, 60):
        await park(catalog, "leo", "mia", first=9)
        waits = await catalog.parking.waits()

    assert waits["mia"] - waits["leo"] >= 60_000 - 5000 > waits["leo"]


async def test_what_is_queued_again_waits_behind_what_was_parked_before(catalog: Catalog) -> None:
    await park(catalog, *["mia"] * 2)
    async with later(catalog, 60):
        again = UploadRequested(StreamId(9), named("mia", 1), "uploads/mia/1.jpg", "default")
        await catalog.intake.take([(again, letter("9-0"))], [], epoch=0, same_stream=True, admit=none)

    assert list((await work_for(catalog, {"mia": 1}))[1]) == [named("mia", 2)]


async def test_owners_with_odd_names_are_told_and_given_jobs_like_others(catalog: Catalog) -> None:
    names = ["a'b", "%_", "\\N", "{x,y}", '"', "\N{SNOWMAN}" * 64, "NULL", " "]
    await park(catalog, *names)

    assert sorted(await catalog.parking.owners()) == sorted(names)
    assert sorted((await work_for(catalog, dict.fromkeys(names, 1)))[1].values()) == sorted(names)


async def test_a_tombstone_is_not_parked(catalog: Catalog) -> None:
    await take(catalog, delete_event(1, uuid4()))

    assert await catalog.parking.owners() == []
