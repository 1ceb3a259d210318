"""Races of two hosts on one catalog: each is run with one of the two about to commit.

Where a database has one writer at a time, the other waits from its start; where it has many, each test fails
once the lock or the condition that it is about is taken out.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from uuid import UUID, uuid5

import pytest
from sqlalchemy import select, update

from storage.catalog.locks import lock_uploads
from storage.catalog.opening import Catalog
from storage.catalog.poison import PoisonContent
from storage.catalog.records import Message, Ready, State, StreamId, Taken
from storage.catalog.tables import deletion_marks, poison_contents, uploads, variants
from tests.support.catalogs import (
    CAT,
    SHA,
    claim,
    commit,
    delete_event,
    failed,
    key,
    letter,
    outbox_of,
    postponed,
    ready,
    take,
    try_claim,
    upload,
    upload_event,
    work,
)
from tests.support.polling import until
from tests.support.races import STUCK_S, beside, waits_for_a_lock

ONE, TWO = "a-sweeper", "another-sweeper"
DOG = uuid5(CAT, "dog")
FOREVER = 2.0**60
WAITS_S = 5  # at most: whoever waits longer waits for another's transaction


async def rows_with_marks(catalog: Catalog) -> Sequence[str]:
    """The keys that have a row and a mark of a sweep that moves their file away."""
    query = select(variants.c.key).join(deletion_marks, deletion_marks.c.key == variants.c.key)
    async with catalog.database.reading() as connection:
        return (await connection.execute(query)).scalars().all()


async def count_open_marks(catalog: Catalog) -> int:
    query = select(deletion_marks.c.key).where(deletion_marks.c.moved_ms.is_(None))
    async with catalog.database.reading() as connection:
        return len((await connection.execute(query)).all())


def keys_of(outcome: Ready) -> Sequence[str]:
    return [variant.key for variant in outcome.variants]


# -- claims and outcomes


async def test_no_two_claims_have_the_same_token(catalog: Catalog, another: Catalog) -> None:
    await take(catalog, upload_event(1))
    first, second = await beside(catalog, try_claim(catalog, holder="one"), try_claim(another, holder="two"))

    assert first is not None
    assert second is not None
    assert first.token != second.token
    assert (first.upload.claims, second.upload.claims) == (1, 2)
    assert (first.crash_count, second.crash_count) == (0, 1)


async def test_a_claim_has_one_outcome(catalog: Catalog, another: Catalog) -> None:
    await take(catalog, upload_event(1))
    mine = await claim(catalog)
    first, second = await beside(catalog, commit(catalog, ready(mine)), commit(another, failed(mine)))

    assert (first.state, second.state) == (State.READY, None)
    assert [message.kind for message in await outbox_of(catalog)] == [State.READY]


async def test_a_claim_of_a_deletion_is_postponed_once(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    await take(catalog, delete_event(2))
    mine = await claim(catalog)
    first, second = [await commit(catalog, postponed(mine)) for _ in range(2)]

    assert (first.state, second.state) == (State.DELETING, None)
    assert (await upload(catalog)).attempts == 1


async def test_a_claim_that_was_taken_over_has_no_outcome(catalog: Catalog, another: Catalog) -> None:
    await take(catalog, upload_event(1))
    mine = await claim(catalog, holder="one")
    taking = claim(catalog, holder="two")  # it first tries what may be lost
    taken, late = await beside(catalog, taking, commit(another, failed(mine)), commits=2)

    assert (taken.upload.claims, late.state) == (2, None)
    assert (await upload(catalog)).state is State.PROCESSING


@pytest.mark.parametrize("holder", ["one", "two"])
async def test_a_claim_that_the_database_has_forgotten_has_no_outcome(
    catalog: Catalog, another: Catalog, *, holder: str
) -> None:
    await take(catalog, upload_event(1))
    forgotten = await claim(catalog, holder="one")
    async with catalog.database.writing() as connection:  # as a crash or a replica that takes over leaves it
        await connection.execute(update(uploads).values(claim=0, holder=None, state=State.QUEUED))
    newer = await claim(another, holder=holder)
    outcomes = [await commit(catalog, failed(forgotten)), await commit(another, ready(newer))]

    assert [outcome.state for outcome in outcomes] == [None, State.READY]


# -- rows and deletion marks


async def test_a_key_that_is_about_to_get_its_row_is_not_marked(catalog: Catalog, another: Catalog) -> None:
    await take(catalog, upload_event(1))
    outcome = ready(await claim(catalog))
    assert await another.sweeps.lease(ONE, 60)
    committed, marked = await beside(
        catalog, commit(catalog, outcome), another.sweeps.mark_for_deletion(ONE, keys_of(outcome))
    )

    assert (committed.state, marked) == (State.READY, frozenset())
    assert await rows_with_marks(catalog) == []


async def test_a_key_that_is_about_to_be_marked_gets_no_row(catalog: Catalog, another: Catalog) -> None:
    await take(catalog, upload_event(1))
    outcome = ready(await claim(catalog))
    assert await another.sweeps.lease(ONE, 60)
    marked, committed = await beside(
        another, another.sweeps.mark_for_deletion(ONE, keys_of(outcome)), commit(catalog, outcome)
    )

    assert (committed.state, marked) == (State.QUEUED, frozenset(keys_of(outcome)))
    assert await rows_with_marks(catalog) == []


async def superseded_and_made_again(catalog: Catalog) -> Ready:
    """An outcome under a claim that has still to be committed: its variants have superseded rows."""
    await take(catalog, upload_event(1))
    await work(catalog)
    await take(catalog, upload_event(2))
    await commit(catalog, ready(await claim(catalog), "b" * 64))
    await take(catalog, upload_event(3))
    return ready(await claim(catalog))


@pytest.mark.parametrize("sweep_first", [False, True])
async def test_a_superseded_row_is_current_again_or_deleted(
    catalog: Catalog, another: Catalog, *, sweep_first: bool
) -> None:
    again = await superseded_and_made_again(catalog)
    assert await another.sweeps.lease(ONE, 60)
    mark = another.sweeps.mark_superseded(ONE, keys_of(again), FOREVER)
    if sweep_first:
        marked, committed = await beside(another, mark, commit(catalog, again))
    else:
        committed, marked = await beside(catalog, commit(catalog, again), mark)

    assert await rows_with_marks(catalog) == []
    assert (committed.state, len(marked)) == ((State.QUEUED, 2) if sweep_first else (State.READY, 0))


async def test_a_row_that_is_about_to_name_a_moved_file_is_waited_for(
    catalog: Catalog, another: Catalog
) -> None:
    await take(catalog, upload_event(1))
    keys = keys_of(ready(await claim(catalog)))
    assert await another.sweeps.lease(ONE, -1)
    await another.sweeps.mark_for_deletion(ONE, keys)
    assert await another.sweeps.lease(TWO, 60)
    await another.sweeps.clear_abandoned_marks(TWO)
    async with catalog.database.writing() as connection:  # so long ago that a claim of now has seen it
        await connection.execute(update(deletion_marks).values(moved_ms=1))
    outcome = ready(await claim(catalog))
    late = another.sweeps.clear_marks(ONE, moved=keys, untouched=[])
    committed, referenced = await beside(catalog, commit(catalog, outcome), late)

    assert (committed.state, referenced) == (State.READY, frozenset(keys))


@pytest.mark.parametrize("sweep_first", [False, True])
async def test_a_superseded_row_that_becomes_current_is_not_dropped(
    catalog: Catalog, another: Catalog, *, sweep_first: bool
) -> None:
    again = await superseded_and_made_again(catalog)
    drop = another.sweeps.drop_superseded(keys_of(again))
    if sweep_first:
        await beside(another, drop, commit(catalog, again))
    else:
        await beside(catalog, commit(catalog, again), drop)

    assert {variant.key for variant in (await upload(catalog)).variants} == set(keys_of(again))


# -- the lease of the sweep


async def test_a_mark_that_was_set_after_a_lease_is_not_taken_for_an_abandoned_one(
    catalog: Catalog, another: Catalog
) -> None:
    first, second = [key(CAT, SHA, name) for name in ("thumb", "large")]
    assert await another.sweeps.lease(ONE, -1)
    await another.sweeps.mark_for_deletion(ONE, [first])
    await another.sweeps.mark_for_deletion(ONE, [second])

    async def take_over() -> None:
        assert await another.sweeps.lease(TWO, 60)
        await another.sweeps.mark_for_deletion(TWO, [second])

    async with another.database.writing() as connection:  # holds up whoever clears the first mark
        await connection.execute(
            select(deletion_marks).where(deletion_marks.c.key == first).with_for_update()
        )
        clearing = asyncio.ensure_future(catalog.sweeps.clear_abandoned_marks())
        await asyncio.wait([clearing], timeout=STUCK_S)
        taking = asyncio.ensure_future(take_over())
        await asyncio.wait([taking], timeout=STUCK_S)
    await asyncio.gather(clearing, taking)

    async with catalog.database.reading() as connection:
        query = select(deletion_marks.c.moved_ms).where(deletion_marks.c.key == second)
        assert (await connection.execute(query)).scalar_one() is None


async def test_a_lease_is_given_to_one(catalog: Catalog, another: Catalog) -> None:
    assert await beside(catalog, catalog.sweeps.lease(ONE, 60), another.sweeps.lease(TWO, 60)) == (
        True,
        False,
    )


async def test_a_lease_that_has_run_out_is_given_to_one(catalog: Catalog, another: Catalog) -> None:
    assert await catalog.sweeps.lease("a-dead-sweeper", -1)

    assert await beside(catalog, catalog.sweeps.lease(ONE, 60), another.sweeps.lease(TWO, 60)) == (
        True,
        False,
    )


async def test_whoever_takes_the_lease_over_finds_every_mark_of_the_one_before(
    catalog: Catalog, another: Catalog
) -> None:
    assert await catalog.sweeps.lease(ONE, -1)

    async def take_over() -> None:
        assert await another.sweeps.lease(TWO, 60)
        await another.sweeps.clear_abandoned_marks(TWO)

    marked, _ = await beside(
        catalog, catalog.sweeps.mark_for_deletion(ONE, [key(CAT, SHA, "thumb")]), take_over()
    )

    assert len(marked) == 1
    assert await count_open_marks(catalog) == 0


# -- events


@pytest.mark.parametrize("event_first", [False, True])
async def test_neither_an_event_nor_an_outcome_is_lost(
    catalog: Catalog, another: Catalog, *, event_first: bool
) -> None:
    await take(catalog, upload_event(1))
    outcome = ready(await claim(catalog))
    if event_first:
        await beside(another, take(another, upload_event(2)), commit(catalog, outcome))
    else:
        await beside(catalog, commit(catalog, outcome), take(another, upload_event(2)))

    found = await upload(catalog)
    assert (found.state, len(found.variants)) == (State.QUEUED, 2)
    assert await try_claim(catalog) is not None


async def test_an_event_does_not_undo_what_ended_a_claim(catalog: Catalog, another: Catalog) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    await take(catalog, delete_event(2))
    mine = await claim(catalog, holder="one")
    await beside(catalog, catalog.claims.release([mine]), take(another, delete_event(3, original=True)))

    assert (await claim(catalog, holder="two")).crash_count == 0


async def test_an_event_that_two_take_makes_one_row(catalog: Catalog, another: Catalog) -> None:
    one, two = await beside(catalog, take(catalog, upload_event(1)), take(another, upload_event(1)))

    assert ([len(taken.jobs) for taken in (one, two)]) == [1, 0]
    async with catalog.database.reading() as connection:
        assert len((await connection.execute(select(uploads.c.id))).all()) == 1


async def test_two_new_uploads_that_come_to_two_in_both_orders_become_two_rows(
    catalog: Catalog, another: Catalog
) -> None:
    cat, dog = upload_event(1), upload_event(2, DOG, "uploads/dog.jpg")
    await beside(catalog, take(catalog, cat, dog), take(another, dog, cat))

    assert {(await upload(catalog, each)).state for each in (CAT, DOG)} == {State.QUEUED}


async def test_what_two_read_from_the_stream_at_once_is_taken_by_both(
    catalog: Catalog, another: Catalog
) -> None:
    one, two = await beside(catalog, read(catalog, 2, CAT), read(another, 1, DOG))

    assert isinstance(one, Taken)
    assert isinstance(two, Taken)
    assert (await catalog.epochs.current()).newest == StreamId(2, 0)


async def read(of: Catalog, ms: int, upload_id: UUID) -> object:
    """What was read from the stream is taken."""
    return await of.intake.take(
        [(upload_event(ms, upload_id), letter(f"{ms}-0"))], [], epoch=0, same_stream=True
    )


@pytest.mark.parametrize("database_kind", ["postgres"])
async def test_an_intake_that_waits_for_a_row_keeps_no_other_intake_waiting(
    catalog: Catalog, another: Catalog
) -> None:
    await read(catalog, 1, CAT)
    async with catalog.database.writing() as connection:
        await lock_uploads(connection, [CAT])
        waiting = asyncio.ensure_future(read(catalog, 2, CAT))
        await until(partial(waits_for_a_lock, another))
        async with asyncio.timeout(WAITS_S):
            taken = await read(another, 3, DOG)

    assert isinstance(taken, Taken)
    assert isinstance(await waiting, Taken)
    assert (await catalog.epochs.current()).newest == StreamId(3, 0)


# -- the outbox


async def test_a_reader_that_remembers_the_greatest_seq_misses_no_message(
    catalog: Catalog, another: Catalog
) -> None:
    await take(catalog, upload_event(1), upload_event(2, DOG, "uploads/dog.jpg"))
    cat, dog = await claim(catalog), await claim(catalog, DOG)
    seen: list[Message] = []

    async def read_on() -> None:
        seen.extend(await outbox_of(catalog, seen[-1].seq if seen else 0))

    await beside(catalog, commit(catalog, failed(cat)), commit(another, failed(dog)), read_on)
    await read_on()

    assert [message.id for message in seen] == [CAT, DOG]


# -- dead letters


async def test_a_dead_letter_that_arrives_while_old_ones_are_pruned_stays(
    catalog: Catalog, another: Catalog
) -> None:
    before_ms = catalog.database.now_ms() - 1000
    arriving = another.intake.take([], [letter("1-0")])
    await beside(catalog, catalog.dead_letters.prune(before_ms), arriving, before="DELETE")

    assert await catalog.dead_letters.count() == 1


# -- poison contents


async def test_a_poison_content_that_is_met_again_while_old_ones_are_pruned_stays(
    catalog: Catalog, another: Catalog
) -> None:
    before_ms = catalog.database.now_ms()
    content = PoisonContent(SHA, 1, "v1", "decoder_crashed", "it died")
    await catalog.poison.add(content)
    async with catalog.database.writing() as connection:
        await connection.execute(update(poison_contents).values(made_ms=before_ms - 1))
    await beside(catalog, catalog.poison.add(content), another.poison.prune(before_ms))

    assert await catalog.poison.all("v1") == [content]
