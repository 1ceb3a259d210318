"""Room for uploads: in the process, in the storage, for each sender."""

import asyncio

import pytest

from storage.blobs import Space
from worker.http.problems import Problem
from worker.http.room import Rate, UploadRoom


class ClockByHand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def room_with(space: Space | None, at_once: int = 2) -> UploadRoom:
    async def ask() -> Space | None:
        return space

    return UploadRoom(at_once, 0, ask)


async def refusal(room: UploadRoom, size: int = 10) -> str | None:
    """The code with which the room refuses an upload of that size."""
    try:
        async with room.taken("app", size):
            return None
    except Problem as problem:
        return problem.code


async def test_no_more_uploads_than_allowed_are_taken_at_once() -> None:
    room = room_with(None)
    async with room.taken("app", 10), room.taken("app", 10):
        assert await refusal(room) == "busy"

    assert await refusal(room) is None


async def test_one_token_cannot_keep_all_others_out_however_slowly_it_sends() -> None:
    room = room_with(None, at_once=8)
    async with room.taken("page", 10, is_token=True), room.taken("page", 10, is_token=True):
        with pytest.raises(Problem, match="this token") as refused:
            await room.taken("page", 10, is_token=True).__aenter__()
        async with room.taken("another page", 10, is_token=True):
            assert await refusal(room) is None

    assert refused.value.code == "busy"
    async with room.taken("page", 10, is_token=True):
        assert await refusal(room) is None


@pytest.mark.parametrize(
    ("space", "code"),
    [
        (Space(100, 30, 5, 70), None),
        (Space(100, 29, 5, 71), "storage_full"),
        (Space(100, 30, 0, 70), "storage_full"),
        (Space(100, 30, None, 70), None),
    ],
)
async def test_a_storage_without_room_is_full(space: Space, code: str | None) -> None:
    assert await refusal(room_with(space), 30) == code


async def test_what_is_on_its_way_counts_as_stored() -> None:
    room = room_with(Space(100, 30, 5, 70))
    async with room.taken("app", 20):
        assert await refusal(room, 11) == "storage_full"

    assert await refusal(room, 11) is None


async def test_the_storage_is_asked_once_a_second() -> None:
    asked, clock = 0, ClockByHand()

    async def ask() -> None:
        nonlocal asked
        asked += 1

    room = UploadRoom(20, 0, ask, clock)
    await asyncio.gather(*(refusal(room) for _ in range(3)))
    clock.now = 1.0
    await refusal(room)

    assert asked == 2


def test_a_sender_is_told_when_the_next_upload_may_come() -> None:
    clock = ClockByHand()
    rate = Rate(2, clock)
    for clock.now in (0.0, 10.0):
        rate.count("app")
    clock.now = 20.0
    with pytest.raises(Problem) as refused:
        rate.count("app")
    rate.count("another")
    clock.now = 60.0
    rate.count("app")

    assert refused.value.headers == {"Retry-After": "40"}
