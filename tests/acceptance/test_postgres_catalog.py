"""Workers and commands whose catalog is in Postgres: by setting only."""

import asyncio
import json

from storage.catalog.opening import open_catalog
from storage.catalog.records import State
from storage.totals import Total
from tests.support import pictures
from tests.support.commands import forked
from tests.support.workplace import Answer, Workplace

UPLOADS = 8


def counted(url: str) -> tuple[int, list[Total]]:
    """How many uploads are ready, and what is wrong with the totals."""

    async def ask() -> tuple[int, list[Total]]:
        async with open_catalog(url, create=False) as catalog:
            states = await catalog.reports.states()
            assert sum(states.values()) == states[State.READY]
            return states[State.READY], list(await catalog.reports.check_totals())

    return asyncio.run(ask())


def test_two_workers_share_the_uploads_of_one_catalog_and_commands_see_it(
    workplace: Workplace, postgres_catalog_url: str
) -> None:
    workplace.settings["MEDIA_CATALOG_URL"] = postgres_catalog_url
    workers = [workplace.start("arq"), workplace.start("media")]
    sources = [workplace.put(f"uploads/{number}.jpg", pictures.medium()) for number in range(UPLOADS)]

    workplace.send_all({"source": source} for source in sources)
    answers = workplace.await_end_of(*sources)

    keys = [variant["key"] for answer in answers.values() for variant in answer["variants"]]
    assert [answer["type"] for answer in answers.values()] == ["upload.ready"] * UPLOADS
    assert [(workplace.root / key).is_file() for key in keys] == [True] * 3 * UPLOADS
    assert not workplace.catalog.with_name("catalog.db-wal").exists()
    assert [worker.stop() for worker in workers] == [0, 0]
    assert counted(postgres_catalog_url) == (UPLOADS, [])
    assert stats(workplace)["uploads"]["ready"] == UPLOADS
    password = postgres_catalog_url.partition("media:")[2].partition("@")[0]
    doctor = forked(["media", "doctor"], workplace.env(), workplace.home)
    assert password not in doctor.stdout + doctor.stderr
    assert "postgresql://media@127.0.0.1" in doctor.stdout


def stats(place: Workplace) -> Answer:
    answer: Answer = json.loads(forked(["media", "stats", "--json"], place.env(), place.home).stdout)
    return answer


def test_a_worker_says_which_password_is_wrong_and_shows_none(
    workplace: Workplace, postgres_catalog_url: str
) -> None:
    host = postgres_catalog_url.partition("@")[2]
    worker = workplace.start(
        "media", ready=False, MEDIA_CATALOG_URL=f"postgresql+asyncpg://media:hunter2@{host}"
    )
    worker.process.wait(30)

    assert "correct user and password in MEDIA_CATALOG_URL" in worker.text
    assert "hunter2" not in worker.text
