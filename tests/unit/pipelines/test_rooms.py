"""Rooms for uploads at work: small ones enough for groups, of large ones few, whoever else has some."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from pipelines.formats import MIB
from pipelines.sandbox.groups import MOST_IN_GROUP, SMALL_BYTES
from pipelines.sandbox.rooms import NotBegunError, Patience, Rooms
from pipelines.slots import Slots
from tests.support.holders import Holders

LARGE = SMALL_BYTES + 1


@pytest.fixture
def holders() -> Holders:
    return Holders()


@pytest.mark.parametrize("decoders", [1, 2, 4])
def test_a_decoder_and_who_waits_for_it_have_a_group_each(decoders: int) -> None:
    assert Rooms(decoders).share_of("mia") == MOST_IN_GROUP * (decoders + 1)


async def test_an_owner_has_few_large_pictures_at_work_and_any_number_of_small_ones(holders: Holders) -> None:
    rooms = Rooms(1)
    for number in range(8):
        await holders.enter(f"large {number}", rooms.room(LARGE, "mia"))
        await holders.enter(f"small {number}", rooms.room(SMALL_BYTES, "mia"))

    assert sorted(holders.inside) == [*(f"large {n}" for n in range(6)), *(f"small {n}" for n in range(8))]


async def test_beside_the_large_pictures_of_one_owner_there_is_room_for_as_many_of_another(
    holders: Holders,
) -> None:
    rooms = Rooms(1)
    for number in range(8):
        await holders.enter(f"mia {number}", rooms.room(LARGE, "mia"))
    for number in range(8):
        await holders.enter(f"tom {number}", rooms.room(LARGE, "tom"))

    assert sorted(holders.inside) == [f"{owner} {n}" for owner in ("mia", "tom") for n in range(6)]


async def test_an_owner_whose_last_picture_was_large_claims_no_more_than_may_be_at_work() -> None:
    rooms = Rooms(1)
    async with rooms.room(LARGE, "mia"):
        shares = rooms.share_of("mia"), rooms.share_of("tom")
    async with rooms.room(SMALL_BYTES, "mia"):
        later = rooms.share_of("mia")

    assert (shares, later) == ((6, 16), 16)


async def test_a_share_that_shrinks_gives_no_further_place_until_enough_are_free(holders: Holders) -> None:
    share, slots = {"mia": 3}, Slots(8, share=lambda owner: share[owner])
    for number in range(3):
        await holders.enter(f"mia {number}", slots.one("mia"))
    share["mia"] = 2
    await holders.enter("mia 3", slots.one("mia"))
    await holders.leave("mia 0")
    before = list(holders.inside)
    await holders.leave("mia 1")

    assert (before, holders.inside) == (["mia 1", "mia 2"], ["mia 2", "mia 3"])


def test_where_each_picture_has_its_own_decoder_small_ones_have_as_few_rooms_as_large_ones() -> None:
    assert Rooms(2, groups=False).share_of("mia") == 8


async def test_of_owners_with_large_pictures_no_more_are_known_than_a_thousand() -> None:
    rooms = Rooms(1)
    for number in range(1002):
        async with rooms.room(LARGE, str(number)):
            pass

    assert [rooms.share_of(str(number)) for number in (0, 1, 2, 1001)] == [16, 16, 6, 6]


@pytest.mark.parametrize("why", ["the worker stops", "the time is up"])
async def test_who_waits_for_a_room_in_vain_leaves_and_keeps_none(holders: Holders, why: str) -> None:
    rooms, stopping = Rooms(1), asyncio.Event()
    until = asyncio.get_running_loop().time() + (0.02 if why == "the time is up" else 60)
    for number in range(rooms.few):
        await holders.enter(f"large {number}", rooms.room(LARGE, "mia"))
    waiting = asyncio.create_task(_stay_for_a_moment(rooms.room(LARGE, "mia", Patience(until, stopping))))
    await holders.settle()
    if why == "the worker stops":
        stopping.set()
    with pytest.raises(NotBegunError):
        await waiting
    await holders.leave("large 0")
    await holders.enter("next", rooms.room(LARGE, "mia"))

    assert holders.inside == [*(f"large {n}" for n in range(1, rooms.few)), "next"]


async def test_who_finds_a_room_at_once_has_it_although_the_worker_stops() -> None:
    stopping = asyncio.Event()
    stopping.set()
    async with Rooms(1).room(LARGE, "mia", Patience(stopping=stopping)):
        pass


@pytest.mark.parametrize("all_places", [False, True], ids=["one", "all"])
async def test_no_decoder_is_kept_while_too_many_variants_wait_to_be_stored(
    holders: Holders, all_places: bool
) -> None:
    rooms, slots = Rooms(1), Slots(1)
    place = slots.exclusive if all_places else slots.one
    with rooms.unstored(10 * MIB):
        await holders.enter("at 10 MiB", rooms.decoder(place))
        await holders.enter("behind", rooms.decoder(place))
        with rooms.unstored(7 * MIB):
            await holders.leave("at 10 MiB")
            await holders.enter("at 17 MiB", rooms.decoder(place))
            during = list(holders.inside), slots.busy
        await holders.settle()

    assert (during, holders.inside) == (([], 0), ["behind"])


async def _stay_for_a_moment(place: AbstractAsyncContextManager[None]) -> None:
    async with place:
        pass
