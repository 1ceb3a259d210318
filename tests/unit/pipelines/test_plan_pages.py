"""A plan, page by page and by kind, however long it is."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipelines.sweep.findings import Discrepancy, Kind, StepResult
from pipelines.sweep.plan import Draft, Plan, PlanUnknown, PlanUnreadable, finish, load, write_down
from pipelines.sweep.plan_pages import PARTS_FOR_A_PAGE, find_page
from storage.blobs.memory import MemoryBlobs
from storage.keys import plan_key, plan_part_key

NOW = 1_800_000_000.0  # s since 1970


def found(kind: Kind, *numbers: int) -> Sequence[Discrepancy]:
    return [Discrepancy(kind, f"variants/{kind}-{number}", number) for number in numbers]


async def plan_of(blobs: MemoryBlobs, *parts: Sequence[Discrepancy]) -> Plan:
    draft = Draft.new(NOW)
    for part in parts:
        draft = await write_down(draft, StepResult(part, "a"), blobs)
    return await finish(draft, NOW, blobs)


async def all_of(
    plan: Plan, blobs: MemoryBlobs, size: int, kind: Kind | None = None
) -> Sequence[Sequence[int]]:
    """The numbers of what each page has."""
    pages, place = [], (0, 0)
    while True:
        page = await find_page(plan, blobs, size, *place, kind)
        pages.append([one.bytes for one in page.items])
        if page.following is None:
            return pages
        place = page.following


async def test_pages_follow_each_other_through_all_parts_and_name_each_finding_once() -> None:
    blobs = MemoryBlobs()
    plan = await plan_of(blobs, found(Kind.ORPHAN, 1, 2, 3), found(Kind.RETIRED, 4), found(Kind.LEFTOVER, 5))

    assert await all_of(plan, blobs, 2) == [[1, 2], [3, 4], [5]]
    assert await all_of(plan, blobs, 5) == [[1, 2, 3, 4, 5]]


async def test_of_one_kind_only_its_findings_are_shown() -> None:
    blobs = MemoryBlobs()
    mixed = [*found(Kind.ORPHAN, 1, 2), *found(Kind.MISSING, 3), *found(Kind.ORPHAN, 4)]
    plan = await plan_of(blobs, mixed, found(Kind.RETIRED, 5, 6), found(Kind.LEFTOVER, 7))

    assert await all_of(plan, blobs, 2, Kind.ORPHAN) == [[1, 2], [4]]
    assert await all_of(plan, blobs, 2, Kind.MISSING) == [[3]]
    assert await all_of(plan, blobs, 1, Kind.RETIRED) == [[5], [6]]
    assert await all_of(plan, blobs, 2, Kind.LEFTOVER) == [[7]]
    assert await all_of(plan, blobs, 2, Kind.UNKNOWN) == [[]]


async def test_what_stands_at_the_end_of_a_long_plan_is_found_at_once() -> None:
    blobs = MemoryBlobs()
    retired = [found(Kind.RETIRED, number) for number in range(20)]
    plan = await plan_of(blobs, found(Kind.ORPHAN, 1), *retired, found(Kind.LEFTOVER, 99))

    assert [one.bytes for one in (await find_page(plan, blobs, 5, kind=Kind.LEFTOVER)).items] == [99]


async def test_what_is_rare_in_a_long_plan_is_looked_for_in_a_few_parts_at_a_time() -> None:
    blobs = MemoryBlobs()
    orphans = [found(Kind.ORPHAN, number) for number in range(2 * PARTS_FOR_A_PAGE)]
    plan = await plan_of(blobs, *orphans, found(Kind.MISSING, 99))

    assert await all_of(plan, blobs, 5, Kind.MISSING) == [[], [], [99]]


async def test_a_plan_that_is_purged_meanwhile_is_unknown() -> None:
    blobs = MemoryBlobs()
    plan = await plan_of(blobs, found(Kind.ORPHAN, 1))
    await blobs.delete(plan_part_key(plan.id, 0))

    for kind in (None, Kind.ORPHAN, Kind.LEFTOVER):
        with pytest.raises(PlanUnknown):
            await find_page(replace(plan, counts={"orphan": 1, "leftover": 1}), blobs, 5, kind=kind)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"id": "x", "of a later version": 1}', b"{"])
async def test_what_is_no_plan_of_this_version_is_not_taken_for_one(content: bytes) -> None:
    blobs = MemoryBlobs()
    plan = await plan_of(blobs, found(Kind.ORPHAN, 1))
    await blobs.store([(plan_key(plan.id), content), (plan_part_key(plan.id, 0), b'{"kind":"new"}\n')])

    with pytest.raises(PlanUnreadable):
        await load(plan.id, blobs)
    with pytest.raises(PlanUnreadable):
        await find_page(plan, blobs, 5)
