"""An event whose values the catalog's server refuses is one dead letter, and the others are taken."""

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from storage.catalog.condition import words
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.catalog.tables import kv
from worker.places import PLACES, JobPlaces
from worker.queue import Queue
from worker.recorder import Recorder

TOO_LONG = "r" * 65  # a name of a recipe; SQLite keeps it all the same


@pytest.fixture
def database_kind() -> str:
    return "postgres"


async def test_an_event_that_postgres_refuses_is_one_dead_letter(queue: Queue, catalog: Catalog) -> None:
    recorder = Recorder(queue, catalog.intake, catalog.epochs, frozenset({"default", TOO_LONG}))
    await queue.stream.make_group()
    await recorder.read_epoch()
    for number, recipe in enumerate(["default", TOO_LONG, "default"]):
        event = {"source": f"uploads/{number}.jpg", "recipe": recipe, "metadata": {"a": "hunter2"}}
        await queue.stream.add(event)
    await recorder.record(await queue.stream.read(10, None))

    [letter] = await catalog.dead_letters.newest(10)
    assert letter.code == "internal_error"
    assert letter.message == "could not be recorded: value too long for type character varying(64)"
    assert "hunter2" in letter.body.decode()
    assert (await catalog.reports.states())[State.QUEUED] == 2


async def test_beside_an_event_that_is_refused_no_owner_gets_more_jobs_than_its_share(
    queue: Queue, catalog: Catalog
) -> None:
    places, recipes = JobPlaces(4), frozenset({"default", TOO_LONG})
    recorder = Recorder(queue, catalog.intake, catalog.epochs, recipes, places=places)
    await queue.stream.make_group()
    await recorder.read_epoch()
    for number in range(40):
        await queue.stream.add({"source": f"uploads/greedy/{number}.jpg"})
    await queue.stream.add({"source": "uploads/greedy/bad.jpg", "recipe": TOO_LONG})
    await queue.stream.add({"source": "uploads/mia/cat.jpg"})
    taken = await recorder.record(await queue.stream.read(50, None))

    assert sorted(taken.owners.values()) == ["greedy"] * (PLACES // 2) + ["mia"]
    assert taken.jobs.keys() == places._jobs.keys()
    assert await catalog.parking.count("greedy") == 40 - PLACES // 2


async def test_a_refused_row_shows_nobody_its_values(catalog: Catalog) -> None:
    with pytest.raises(DBAPIError) as refused:
        async with catalog.database.writing() as connection:
            await connection.execute(insert(kv), {"name": "hunter2", "value": None})

    assert "violates not-null constraint" in words(refused.value)
    assert "hunter2" not in words(refused.value)
    assert "hunter2" not in str(refused.value).partition("DETAIL:")[0]
