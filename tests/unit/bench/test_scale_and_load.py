"""A catalog can be filled for a measurement, and a load is summed up."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from math import log
from pathlib import Path

import pytest

from bench import filling, load, scale
from storage.catalog.moving import count_rows
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import State


async def test_a_filled_catalog_has_finished_uploads_with_three_variants_and_a_message(
    catalog: Catalog, tmp_path: Path
) -> None:
    scale.fill(tmp_path / "catalog.db", 20)

    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("uploads", "variants", "outbox")
        ]
    assert counts == [20, 60, 20]
    assert await catalog.outbox.unsent() == []


async def test_a_filled_catalog_on_postgres_has_the_same_and_right_totals(postgres_catalog_url: str) -> None:
    await filling.fill_postgres(postgres_catalog_url, 20)

    async with open_catalog(postgres_catalog_url) as catalog:
        rows = await count_rows(catalog.database)
        assert (rows["uploads"], rows["variants"], rows["outbox"]) == (20, 60, 20)
        assert await catalog.outbox.unsent() == []
        assert await catalog.reports.check_totals() == []
        assert (await catalog.reports.states())[State.READY] == 20


@pytest.mark.parametrize(("costs", "said"), [((10.0, 11.9), "flat"), ((10.0, 13.0), "not flat")])
def test_costs_are_flat_within_a_fifth(costs: Sequence[float], said: str) -> None:
    found = [scale.Cost(f"{size} rows", size, 20.0, cost) for size, cost in enumerate(costs)]

    assert f"By rows: {said}" in scale.table(found)


def test_a_load_is_summed_up_by_percentiles_and_slopes() -> None:
    grown = [(float(second), 100e6 + 1e3 * second) for second in range(0, 3600, 60)]
    found = load.Found([100.0, 200.0, 300.0], grown, [(at, 40.0) for at, _ in grown], 3600)
    answer = load.summary("soak", load.PROFILES["soak"], found)

    assert "p50 200 ms" in answer
    assert "slope +3.6 MB an hour" in answer
    assert "descriptors: at most 40, slope +0.0" in answer


def test_the_stress_profile_sends_twice_as_much_each_time_its_period_has_passed() -> None:
    profile = load.Profile(seconds=30, per_second=4, doubling_s=10)
    sent = [profile.sent_by(second) for second in (0, 10, 20, 30)]
    in_periods = [later - earlier for earlier, later in pairwise(count or 0 for count in sent)]

    assert [profile.rate_at(second) for second in (0, 10, 30)] == [4, 8, 32]
    assert in_periods == [pytest.approx(40 / log(2) * factor, abs=1) for factor in (1, 2, 4)]


@pytest.mark.parametrize(
    ("latencies", "said"),
    [([90.0, 2500.0, 3000.0], "until 8.0 uploads a second"), ([90.0, 100.0, 110.0], "with 32.0 uploads")],
)
def test_the_load_that_is_too_much_is_that_of_the_first_late_upload(
    latencies: Sequence[float], said: str
) -> None:
    profile = load.Profile(seconds=30, per_second=4, doubling_s=10)
    found = load.Found(latencies=list(latencies), seconds=31, sent_at=[5.0, 10.0, 20.0])

    assert f"keeps up {said}" in load.summary("stress", profile, found)
