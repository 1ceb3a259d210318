"""Admission: how many decode at once and how much they may take, and who goes first."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pipelines.accounts import Accounts
from pipelines.formats import MIB
from pipelines.sandbox import admission as module
from pipelines.sandbox.admission import Admission, NoMemoryError
from tests.support.holders import Holders


@pytest.fixture
def holders() -> Holders:
    return Holders()


async def test_no_more_decode_at_once_than_there_are_places(holders: Holders) -> None:
    admission = Admission(2, 100)
    for name in "abc":
        await holders.enter(name, admission.slots.one())
    full = list(holders.inside)
    await holders.leave("a")

    assert full == ["a", "b"]
    assert holders.inside == ["b", "c"]


async def test_memory_is_given_out_in_the_order_of_asking(holders: Holders) -> None:
    admission = Admission(9, 100)
    for name, need in (("a", 60), ("b", 60), ("c", 60)):
        await holders.enter(name, admission.memory(need))
    steps = [list(holders.inside)]
    for name in "ab":
        await holders.leave(name)
        steps.append(list(holders.inside))

    assert steps == [["a"], ["b"], ["c"]]


async def test_a_small_request_that_waits_stays_behind_a_big_one_that_came_first(holders: Holders) -> None:
    admission = Admission(9, 100)
    for name, need in (("half", 50), ("big", 100), ("small", 1)):
        await holders.enter(name, admission.memory(need))
    before = list(holders.inside)
    await holders.leave("half")

    assert before == ["half"]
    assert holders.inside == ["big"]
    await holders.leave("big")
    assert holders.inside == ["small"]


async def test_who_gives_up_waiting_lets_the_next_ones_in(holders: Holders) -> None:
    admission = Admission(9, 100)
    for name, need in (("half", 50), ("big", 100), ("small", 50)):
        await holders.enter(name, admission.memory(need))
    await holders.give_up("big")

    assert holders.inside == ["half", "small"]


async def test_who_gives_up_while_inside_gives_everything_back(holders: Holders) -> None:
    admission = Admission(9, 100)
    await holders.enter("all", admission.memory(100))
    await holders.enter("next", admission.memory(100))
    await holders.give_up("all")

    assert holders.inside == ["next"]


async def test_who_is_cancelled_at_the_moment_of_its_turn_gives_it_on(holders: Holders) -> None:
    admission = Admission(9, 100)
    await holders.enter("all", admission.memory(100))
    await holders.enter("unlucky", admission.memory(100))
    await holders.enter("next", admission.memory(100))
    holders.let_go("all")
    await asyncio.sleep(0)
    await holders.give_up("unlucky")

    assert holders.inside == ["next"]


async def test_alone_waits_for_all_and_keeps_all_out(holders: Holders) -> None:
    admission = Admission(2, 100)
    await holders.enter("a", admission.slots.one())
    await holders.enter("alone", admission.exclusive())
    await holders.enter("b", admission.slots.one())
    before = list(holders.inside)
    await holders.leave("a")
    for name in [each for each in holders.inside if each == "b"]:
        await holders.leave(name)
    alone = list(holders.inside)
    await holders.enter("c", admission.slots.one())

    assert "alone" not in before
    assert alone == ["alone"]
    assert holders.inside == ["alone"]


async def test_two_who_want_to_be_alone_take_turns(holders: Holders) -> None:
    admission = Admission(3, 100)
    for name in ("first", "second"):
        await holders.enter(name, admission.exclusive())
    before = list(holders.inside)
    await holders.leave("first")

    assert before == ["first"]
    assert holders.inside == ["second"]


async def test_who_gives_up_being_alone_gives_all_places_back(holders: Holders) -> None:
    admission = Admission(2, 100)
    await holders.enter("a", admission.slots.one())
    await holders.enter("alone", admission.exclusive())
    await holders.give_up("alone")
    async with AsyncExitStack() as stack:
        await asyncio.wait_for(stack.enter_async_context(admission.slots.one()), 5)
        await asyncio.wait_for(stack.enter_async_context(admission.memory(100)), 5)


async def test_who_gives_up_at_the_moment_when_another_leaves_is_passed_over(holders: Holders) -> None:
    admission = Admission(9, 100)
    await holders.enter("all", admission.memory(100))
    await holders.enter("unlucky", admission.memory(100))
    holders.let_go("all")
    await holders.give_up("unlucky")
    await holders.enter("next", admission.memory(100))

    assert holders.inside == ["next"]


async def test_memory_that_is_not_there_now_is_refused_and_not_waited_for(holders: Holders) -> None:
    admission = Admission(2, 100)
    with admission.memory_now(60), pytest.raises(NoMemoryError) as refused, admission.memory_now(60):
        pass

    assert refused.value.need == 60
    with admission.memory_now(100):
        pass


async def test_a_small_picture_overtakes_a_big_one_that_waits_but_not_for_ever(
    holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission = Admission(2, 100)
    await holders.enter("half", admission.memory(50))
    await holders.enter("big", admission.memory(100))
    with admission.memory_now(10):
        pass
    monkeypatch.setattr(module, "MAX_OVERTAKING_S", 0)

    with pytest.raises(NoMemoryError), admission.memory_now(10):
        pass
    await holders.leave("half")
    assert holders.inside == ["big"]


async def test_memory_goes_to_the_owner_that_has_used_least(holders: Holders) -> None:
    accounts = Accounts()
    accounts.use("greedy", 10)
    admission = Admission(9, 100, accounts)
    await holders.enter("all", admission.memory(100))
    await holders.enter("greedy", admission.memory(100, "greedy"))
    await holders.enter("mia", admission.memory(100, "mia"))
    await holders.leave("all")

    assert holders.inside == ["mia"]


async def test_big_pictures_that_wait_hold_up_no_owner_that_has_used_less(
    holders: Holders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OVERTAKING_S", 0)
    accounts = Accounts()
    accounts.use("greedy", 10)
    admission = Admission(2, 100, accounts)
    await holders.enter("half", admission.memory(50, "greedy"))
    await holders.enter("big", admission.memory(100, "greedy"))

    with (
        admission.memory_now(10, "mia"),
        pytest.raises(NoMemoryError),
        admission.memory_now(10, "greedy"),
    ):
        pass


async def test_its_repr_says_what_is_taken_and_who_waits(holders: Holders) -> None:
    admission = Admission(2, 416 * MIB)
    await holders.enter("slot", admission.slots.one())
    await holders.enter("memory", admission.memory(400 * MIB))
    await holders.enter("waits", admission.memory(20 * MIB))
    assert repr(admission) == "<Admission: 1 of 2 slots busy, 16 of 416 MiB free, 1 waiting>"

    await holders.leave("memory")
    await holders.leave("waits")
    await holders.leave("slot")
    await holders.enter("alone", admission.exclusive())
    assert repr(admission) == "<Admission: 2 of 2 slots busy, 0 of 416 MiB free, 0 waiting>"

    await holders.leave("alone")
    assert repr(admission) == "<Admission: 0 of 2 slots busy, 416 of 416 MiB free, 0 waiting>"
