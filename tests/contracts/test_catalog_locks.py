"""Each lock of the catalog is needed: whoever goes without it loses the race that it is about."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from storage.catalog import tokens
from storage.catalog.database import Database
from storage.catalog.opening import Catalog
from tests.contracts import test_catalog_races as races

pytestmark = pytest.mark.campaign

Race = Callable[..., Awaitable[None]]

NEEDED: list[tuple[str, Race, dict[str, Any]]] = [
    ("commit", races.test_a_key_that_is_about_to_be_marked_gets_no_row, {}),
    ("mark_for_deletion", races.test_a_key_that_is_about_to_get_its_row_is_not_marked, {}),
    ("mark_superseded", races.test_a_superseded_row_is_current_again_or_deleted, {"sweep_first": True}),
    ("clear_marks", races.test_a_row_that_is_about_to_name_a_moved_file_is_waited_for, {}),
    (
        "clear_abandoned_marks",
        races.test_a_mark_that_was_set_after_a_lease_is_not_taken_for_an_abandoned_one,
        {},
    ),
    ("lease", races.test_whoever_takes_the_lease_over_finds_every_mark_of_the_one_before, {}),
]


@pytest.fixture
def database_kind() -> str:
    return "postgres"  # SQLite has one writer at a time, and no locks of ours


@pytest.mark.parametrize(("verb", "race", "how"), NEEDED, ids=[verb for verb, _, _ in NEEDED])
async def test_a_verb_without_its_lock_loses_its_race(
    verb: str,
    race: Race,
    how: dict[str, Any],
    catalog: Catalog,
    another: Catalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for lock in ("share", "exclude"):
        monkeypatch.setattr(Database, lock, _except_of(verb, getattr(Database, lock)))

    with pytest.raises(AssertionError):
        await race(catalog, another, **how)


def _except_of(verb: str, lock: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def locked(*args: Any) -> None:
        if sys._getframe(1).f_code.co_name != verb:
            await lock(*args)

    return locked


async def test_without_their_order_a_message_is_missed(catalog: Catalog, another: Catalog) -> None:
    async with catalog.database.writing() as connection:
        await connection.execute(text("DROP TRIGGER outbox_in_order ON outbox"))

    with pytest.raises(AssertionError):
        await races.test_a_reader_that_remembers_the_greatest_seq_misses_no_message(catalog, another)


async def test_without_chance_a_forgotten_claim_has_an_outcome(
    catalog: Catalog, another: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "chance", lambda: 0)

    with pytest.raises(AssertionError):
        await races.test_a_claim_that_the_database_has_forgotten_has_no_outcome(
            catalog, another, holder="two"
        )
