"""Places are given in fair turns: the owner that has used least goes next, and none gets all of them."""

import pytest

from pipelines.accounts import Accounts
from pipelines.slots import Slots
from tests.support.holders import Holders
from tests.support.sweeps import Clock


@pytest.fixture
def holders() -> Holders:
    return Holders()


@pytest.fixture
def accounts() -> Accounts:
    """Greedy has used ten seconds, and leo one."""
    accounts = Accounts()
    accounts.use("greedy", 10.0)
    accounts.use("leo", 1.0)
    return accounts


async def enter(holders: Holders, slots: Slots, *names: str) -> None:
    """Ask for a place under each name, in which the owner stands before the number."""
    for name in names:
        await holders.enter(name, slots.one(name.rstrip("0123456789")))


async def test_the_next_place_goes_to_the_owner_that_has_used_least(
    holders: Holders, accounts: Accounts
) -> None:
    slots = Slots(1, accounts=accounts)
    await enter(holders, slots, "greedy1", "greedy2", "leo1", "mia1")
    order = list(holders.inside)
    for _ in range(3):
        await holders.leave(order[-1])
        order += holders.inside

    assert order == ["greedy1", "mia1", "leo1", "greedy2"]


async def test_what_an_owner_waits_with_is_served_in_the_order_of_asking(holders: Holders) -> None:
    slots = Slots(1)
    await enter(holders, slots, "mia1", "mia2", "mia3")
    order = list(holders.inside)
    for _ in range(2):
        await holders.leave(order[-1])
        order += holders.inside

    assert order == ["mia1", "mia2", "mia3"]


async def test_of_owners_that_have_used_nothing_the_one_with_fewer_places_goes_first(
    holders: Holders,
) -> None:
    slots = Slots(4)
    await enter(holders, slots, "leo1", "leo2", "leo3", "mia1", "leo4", "mia2")
    await holders.leave("leo1")

    assert holders.inside == ["leo2", "leo3", "mia1", "mia2"]


async def test_an_owner_gets_no_more_than_half_of_the_places_while_others_wait(
    holders: Holders, accounts: Accounts
) -> None:
    slots = Slots(4, accounts=accounts)
    await enter(holders, slots, "mia1", "mia2", "mia3", "mia4", "mia5", "greedy1", "greedy2", "greedy3")
    for name in ("mia1", "mia2", "mia3"):
        await holders.leave(name)

    assert holders.inside == ["mia4", "greedy1", "greedy2", "mia5"]


async def test_an_owner_has_all_places_while_no_other_waits(holders: Holders) -> None:
    slots = Slots(4)
    await enter(holders, slots, "mia1", "mia2", "mia3", "mia4")

    assert len(holders.inside) == 4


async def test_no_owner_has_more_than_its_share_so_that_another_need_not_wait(holders: Holders) -> None:
    slots = Slots(4, share=2)
    await enter(holders, slots, "greedy1", "greedy2", "greedy3", "mia1")
    before = list(holders.inside)
    await holders.leave("greedy1")

    assert before == ["greedy1", "greedy2", "mia1"]
    assert holders.inside == ["greedy2", "mia1", "greedy3"]


async def test_who_has_worked_alone_pays_for_all_places_and_waits_behind_the_others(
    holders: Holders,
) -> None:
    slots = Slots(4, share=2)
    await holders.enter("first", slots.exclusive("greedy"))
    await holders.enter("second", slots.exclusive("greedy"))
    await enter(holders, slots, "mia1", "mia2")
    await holders.leave("first")
    others = list(holders.inside)
    for name in others:
        await holders.leave(name)

    assert others == ["mia1", "mia2"]
    assert holders.inside == ["second"]


async def seconds_until_inside(holders: Holders, clock: Clock, slots: Slots, who: str) -> int:
    """How long that one waits for a place, for which a new owner asks each second."""
    await enter(holders, slots, "first", who)
    for second in range(1000):
        if who in holders.inside:
            return second
        clock.stop_at(clock() + 1)
        await enter(holders, slots, f"fresh-{second}-")
        await holders.leave(holders.inside[0])
    raise AssertionError(f"{who} waits for ever")


@pytest.mark.parametrize(("used_s", "waits_s"), [(3.0, 60), (80.0, 240)])
async def test_new_owners_without_end_do_not_pass_for_ever_one_that_has_used_much(
    holders: Holders, used_s: float, waits_s: int
) -> None:
    clock = Clock()
    clock.stop_at(1000)
    accounts = Accounts(clock)
    accounts.use("greedy", used_s)
    waited_s = await seconds_until_inside(holders, clock, Slots(1, accounts=accounts), "greedy")

    assert waits_s / 4 < waited_s < waits_s


async def test_of_owners_that_have_used_equally_much_the_one_served_longest_ago_is_next(
    holders: Holders,
) -> None:
    clock = Clock()
    clock.stop_at(1000)
    slots = Slots(1, accounts=Accounts(clock))
    await enter(holders, slots, "leo1", "leo2", "leo3", "leo4")
    clock.stop_at(1001)
    await enter(holders, slots, "mia1", "mia2")
    order = list(holders.inside)
    for second in range(1002, 1007):
        clock.stop_at(second)
        await holders.leave(order[-1])
        order += holders.inside

    assert order == ["leo1", "leo2", "mia1", "leo3", "mia2", "leo4"]


async def test_who_gives_up_waiting_leaves_the_place_to_the_next(holders: Holders) -> None:
    slots = Slots(1)
    await enter(holders, slots, "mia1", "mia2", "mia3")
    await holders.give_up("mia2")
    holders.let_go("mia1")
    await holders.give_up("mia3")  # at the moment of its turn, or before
    await enter(holders, slots, "leo1")

    assert holders.inside == ["leo1"]
    assert slots.busy == 1
