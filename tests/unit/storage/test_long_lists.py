"""Lists of any length: no statement has more parameters than a database takes."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid5

import pytest
from sqlalchemy import event

from storage.catalog import paging
from storage.catalog.opening import Catalog
from storage.catalog.records import DeadLetter, Message, StalledUpload, State
from tests.support.catalogs import CAT, ON_BOTH, claim, commit, failed, letter, take, upload_event

pytestmark = ON_BOTH

IDS = [uuid5(CAT, str(number)) for number in range(25)]
OTHERS = 30  # parameters of a statement at most, beside those of a list
MESSAGES = [Message(seq, State.READY, CAT, None, "", {}, 0) for seq in range(1, 26)]

LONG: dict[str, Callable[[Catalog], Awaitable[object]]] = {
    "requeue": lambda catalog: catalog.requeuer.requeue(IDS, State.FAILED),
    "requeue made": lambda catalog: catalog.requeuer.requeue_made(dict.fromkeys(IDS, 1)),
    "requeue damaged": lambda catalog: catalog.requeuer.requeue_damaged(dict.fromkeys(map(str, IDS), "")),
    "requeue stalled": lambda catalog: catalog.requeuer.requeue_stalled(
        [StalledUpload(each, "job", 0) for each in IDS]
    ),
    "failed": lambda catalog: catalog.failures.newest(100, ids=IDS),
    "discard": lambda catalog: catalog.failures.discard(IDS),
    "letters": lambda catalog: catalog.dead_letters.newest(100, ids=range(25)),
    "discard letters": lambda catalog: catalog.dead_letters.discard(range(25)),
    "poison": lambda catalog: catalog.poison.remove([str(each) for each in IDS]),
    "sources": lambda catalog: catalog.sources.known(map(str, IDS)),
    "mark sent": lambda catalog: catalog.outbox.mark_sent(MESSAGES),
    "messages": lambda catalog: catalog.outbox.with_seqs(range(25)),
    "make due": lambda catalog: catalog.claims.make_due(IDS),
    "waits": lambda catalog: catalog.claims.waits_ms(IDS, "job"),
}


@contextmanager
def parameters(catalog: Catalog) -> Iterator[list[int]]:
    """How many parameters each statement has."""
    counts: list[int] = []

    def count(_c: Any, _u: Any, _sql: str, values: Any, _x: Any, many: bool) -> None:
        counts.append(len(values[0]) if many else len(values))

    engine = catalog.database.backend.engine.sync_engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        yield counts
    finally:
        event.remove(engine, "before_cursor_execute", count)


@pytest.mark.parametrize("ask", LONG.values(), ids=LONG.keys())
async def test_a_long_list_is_several_statements(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Catalog], Awaitable[object]]
) -> None:
    monkeypatch.setattr(paging, "PAGE", 1)
    few = paging.PAGE
    with parameters(catalog) as counts:
        await ask(catalog)

    assert len(counts) >= len(IDS)
    assert max(counts) < OTHERS + few


async def test_more_ids_than_a_server_takes_at_once_are_all_discarded(catalog: Catalog) -> None:
    await catalog.intake.take([], [DeadLetter(f"{ms}-0", "invalid_event", "no", b"") for ms in range(3)])
    await catalog.dead_letters.discard(range(40_000))

    assert await catalog.dead_letters.count() == 0


async def test_what_is_asked_for_in_parts_comes_as_one_list_newest_first(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE", 2)
    ids = await fail(catalog, IDS[:5])
    letters = [letter(f"{ms}-0") for ms in range(100, 105)]
    await catalog.intake.take([], letters)
    numbers = [each.id for each in await catalog.dead_letters.newest(9)]

    assert [one.id for one in await catalog.failures.newest(9, ids=ids)] == ids[::-1]
    assert [one.id for one in await catalog.failures.newest(3, ids=ids)] == ids[:1:-1]
    assert [one.id for one in await catalog.dead_letters.newest(9, ids=numbers[::-1])] == numbers
    assert [one.id for one in await catalog.dead_letters.newest(3, ids=numbers)] == numbers[:3]
    assert sorted(await catalog.requeuer.requeue(ids, State.FAILED)) == sorted(ids)


async def fail(catalog: Catalog, ids: Sequence[UUID]) -> Sequence[UUID]:
    """Have these uploads fail, one after the other in time."""
    for ms, each in enumerate(ids, 1):
        await take(catalog, upload_event(ms, each, f"uploads/{each}"))
        await commit(catalog, failed(await claim(catalog, each)))
        async with catalog.database.writing() as connection:
            await connection.exec_driver_sql(f"UPDATE uploads SET changed_ms = {ms} WHERE id = '{each}'")
    return ids
