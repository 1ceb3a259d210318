"""Listings of an object store, whose end is proved: an empty answer alone shows nothing."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar


class Listed(Protocol):
    """One object of a listing."""

    @property
    def key(self) -> str: ...


L = TypeVar("L", bound=Listed)


async def until_proved(
    ask: Callable[[str], AsyncIterator[Sequence[L]]], after: str, prove: Callable[[], Awaitable[None]]
) -> AsyncGenerator[Sequence[L], None]:
    """The pages that `ask` yields of what comes after a key, until it surely has no more.

    A portal's page, an `<Error>` with status 200 and a list that is cut short look like the end. So the end
    is asked for once more, behind the last key, and `prove` shows that listings are answered at all.
    """
    last, asked = after, 0
    while True:
        before = last
        async for page in ask(before):
            # The first answer is taken as it comes: not every server sorts by the whole key.
            if fresh := [one for one in page if one.key > before] if asked else page:
                yield fresh
                last = max(last, *(one.key for one in fresh))
        asked += 1
        if last == before and asked > 1:
            break
    await prove()
