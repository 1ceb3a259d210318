"""`media migrate-catalog`: the catalog moves to another database while no worker runs."""

from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.commands import document, media
from tests.support.workplace import Workplace

SOURCE, LATER = "uploads/a.jpg", "uploads/b.jpg"


@pytest.fixture
def place(workplace: Workplace) -> Workplace:
    """A workplace with one ready upload."""
    workplace.send({"source": workplace.put(SOURCE, pictures.small(1))})
    assert workplace.run("media", "--burst").returncode == 0
    return workplace


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def test_the_catalog_moves_and_workers_and_commands_with_the_old_one_are_refused(place: Workplace) -> None:
    new = place.home / "new.db"

    done = document(media(place.env(), "migrate-catalog", "--to", url(new), "--json"))

    assert done["finished"] is True
    assert done["rows"]["uploads"] == 1
    assert done["rows"]["variants"] == 3
    refused = [place.run("media", "--burst"), place.run("arq", "--burst")]
    refused += [media(place.env(), *words) for words in (["stats"], ["enqueue", place.root / SOURCE])]
    for ended in refused:
        assert ended.returncode == 1
        assert f"was moved to {new}: set MEDIA_CATALOG_URL" in ended.stderr.replace("\n", " ")
    place.use_catalog(new)
    place.send({"source": place.put(LATER, pictures.small(2))})
    assert place.run("media", "--burst").returncode == 0
    assert place.check().states == {"ready": 2}


def test_a_catalog_does_not_move_while_a_worker_runs(place: Workplace) -> None:
    place.start()

    ended = media(place.env(), "migrate-catalog", "--to", url(place.home / "new.db"))

    assert ended.returncode == 1
    assert "stop every worker first" in ended.stderr
    assert not (place.home / "new.db").exists()


def test_a_dry_run_counts_rows_and_makes_no_catalog(place: Workplace) -> None:
    new = place.home / "new.db"

    ended = document(media(place.env(), "migrate-catalog", "--to", url(new), "--dry-run", "--json"))

    assert (ended["rows"]["uploads"], ended["finished"]) == (1, False)
    assert not new.exists()
    assert place.run("media", "--burst").returncode == 0


@pytest.mark.parametrize("words", [[], ["--to", "new.db"], ["--to", "sqlite+aiosqlite:///x", "--cancel"]])
def test_what_cannot_be_meant_is_refused(place: Workplace, words: list[str]) -> None:
    ended = media(place.env(), "migrate-catalog", *words)

    assert ended.returncode == 2
    assert "--to" in ended.stderr
