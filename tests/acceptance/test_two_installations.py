"""Two installations on one Redis: the second one is refused, and takes nothing."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from storage.catalog.opening import open_catalog
from tests.conftest import url_of
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.job_queues import queued_jobs
from tests.support.workplace import Workplace, eventually

pytestmark = pytest.mark.rotating(2, of="module")


async def another(home: Path) -> dict[str, Any]:
    """The settings of an installation with a catalog and a folder of its own, on the same Redis."""
    async with open_catalog(url_of(home / "other.db")):
        pass
    return {"MEDIA_CATALOG_URL": url_of(home / "other.db"), "MEDIA_STORAGE_URL": f"file:{home / 'other'}"}


@pytest.mark.parametrize("by", ["arq", "media"])
@pytest.mark.rotating(1)
async def test_a_worker_of_another_installation_does_not_start_on_a_stream_that_has_one(
    workplace: Workplace, tmp_path: Path, by: str
) -> None:
    assert workplace.run("media", "--burst").returncode == 0
    other = await another(tmp_path)

    ended = workplace.run(by, **other)
    doctor = media(workplace.env(**other), "doctor", "--json")
    (tmp_path / "a.jpg").write_bytes(pictures.small())
    sent = media(workplace.env(**other), "enqueue", tmp_path / "a.jpg")

    assert (ended.returncode, doctor.returncode, sent.returncode) == (1, 1, 1)
    assert "cannot_start" in ended.stderr
    [found] = [one for one in document(doctor) if one["what"] == "Stream"]
    for answer in (ended.stderr, f"{found['detail']} {found['advice']}", sent.stderr):
        assert "another installation" in answer
        assert "MEDIA_STREAM" in answer
    assert "Traceback" not in ended.stderr
    assert workplace.redis.xlen("media:uploads") == 0


async def test_the_health_check_of_one_installation_does_not_take_anothers_worker_for_its_own(
    workplace: Workplace, tmp_path: Path
) -> None:
    workplace.start("media")
    other = await another(tmp_path)
    assert workplace.run("media", **other).returncode == 1  # it has made its folder, and may not start

    mine, others = workplace.run("arq", "--check"), workplace.run("arq", "--check", **other)

    assert (mine.returncode, others.returncode) == (0, 1)
    assert "another installation" in others.stderr


@WITH_SERVICES
def test_doctor_warns_where_two_installations_send_messages_to_one_stream(
    workplace: Workplace, tmp_path: Path
) -> None:
    other: dict[str, Any] = {
        "MEDIA_STREAM": "other:uploads",
        "MEDIA_CATALOG_URL": url_of(tmp_path / "other.db"),
        "MEDIA_STORAGE_URL": f"file:{tmp_path / 'other'}",
    }
    (tmp_path / "other/uploads").mkdir(parents=True)
    (tmp_path / "other/uploads/a.jpg").write_bytes(pictures.small())
    workplace.send({"source": workplace.put("uploads/b.jpg", pictures.small())})
    assert workplace.run("media", "--burst").returncode == 0
    before = media(workplace.env(), "doctor", "--json")
    workplace.redis.xadd("other:uploads", {"event": '{"source": "uploads/a.jpg"}'})
    assert workplace.run("media", "--burst", **other).returncode == 0

    after = media(workplace.env(), "doctor", "--json")

    assert not [one for one in document(before) if one["what"] == "Messages"]
    [found] = [one for one in document(after) if one["what"] == "Messages"]
    assert (found["level"], after.returncode) == ("warning", 0)
    assert "1 of the newest 2 on media:events" in found["detail"]
    assert "MEDIA_EVENTS" in found["advice"]


@pytest.mark.rotating(1)
def test_a_worker_whose_stream_becomes_anothers_takes_nothing_more_of_it(workplace: Workplace) -> None:
    worker = workplace.start("media")
    source = workplace.put("uploads/a.jpg", pictures.small())
    mine: Any = workplace.redis.get("media:uploads:catalog")
    workplace.redis.set("media:uploads:catalog", str(uuid4()))

    workplace.send({"source": source})
    red = worker.await_log("unhealthy")
    waits = workplace.redis.xlen("media:uploads")
    workplace.redis.set("media:uploads:catalog", mine)

    assert "another installation" in red["reason"]
    assert waits == 1
    assert workplace.await_end_of(source)[source]["type"] == "upload.ready"
    assert worker.stop() == 0


def test_a_sweep_has_nothing_made_again_through_a_stream_that_is_anothers(workplace: Workplace) -> None:
    source = workplace.put("uploads/a.jpg", pictures.small())
    workplace.send({"source": source})
    assert workplace.run("media", "--burst").returncode == 0
    for variant in (workplace.root / "variants").rglob("*.jpg"):
        variant.unlink()
    workplace.redis.set("media:uploads:catalog", str(uuid4()))
    answer = workplace.redis.xlen("media:events")

    for words in ([], ["--apply"], ["--verify"]):
        ended = media(workplace.env(), "sweep", *words)

        assert (ended.returncode, "another installation" in ended.stderr) == (1, True), ended
    assert workplace.redis.xlen("media:events") == answer
    assert queued_jobs(workplace.redis) == []


def test_a_worker_ties_a_redis_that_lost_its_data_again(workplace: Workplace) -> None:
    workplace.start("media")
    mine: Any = workplace.redis.get("media:uploads:catalog")
    workplace.redis.flushdb()

    eventually(lambda: workplace.redis.get("media:uploads:catalog") == mine)

    assert mine
