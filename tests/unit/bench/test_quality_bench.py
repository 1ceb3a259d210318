"""What the bytes of variants are compared with: as many as the former tables take to be as good."""

from math import exp

import pytest

from bench import quality
from bench.quality import FORMER, PSNR, SMALL, SSIM, USUAL, Encoded

SIZES = {"thumb": 1, "medium": 10, "large": 100}


def encoded(way: str, asked: int, share: float = 1.0) -> list[Encoded]:
    """Variants of a photo whose bytes grow by e for each 10 dB, times `share`."""
    scores = {PSNR: asked / 2, SSIM: 1 - exp(-asked / 20)}
    return [
        Encoded("cat.jpg", name, way, asked, round(1000 * size * exp(asked / 20) * share), 2.0, scores)
        for name, size in SIZES.items()
    ]


def rows(usual: float, small: float) -> dict[tuple[str, str], quality.Row]:
    former = [one for asked in (64, 72, 80, 88) for one in encoded(FORMER, asked)]
    found = [*former, *encoded(USUAL, 80, usual), *encoded(SMALL, 80, small)]
    return {(row.way, row.variant): row for row in quality.summarise(found, 80)}


def test_bytes_are_compared_with_those_of_the_former_tables_at_the_same_score() -> None:
    found = rows(0.85, 0.75)

    assert found[FORMER, ""].shares[PSNR] == pytest.approx(1)
    assert found[USUAL, ""].shares == pytest.approx({PSNR: 0.85, SSIM: 0.85}, rel=1e-4)
    assert found[SMALL, "thumb"].shares == pytest.approx({PSNR: 0.75, SSIM: 0.75}, rel=1e-3)
    assert found[USUAL, ""].cpu_ms == 6.0


def test_a_way_of_too_many_bytes_misses_its_goal() -> None:
    few, many = rows(0.87, 0.79), rows(0.89, 0.77)

    assert [few[way, ""].is_kept for way in (USUAL, SMALL)] == [True, False]
    assert [many[way, ""].is_kept for way in (USUAL, SMALL)] == [False, True]


def test_the_table_tells_goals_and_scores() -> None:
    table = quality.table([*rows(0.85, 0.75).values()], 1, 80)

    assert "| encoded | variant | kB | CPU ms | PSNR | SSIM | share, PSNR | share, SSIM |" in table
    assert "| as made | 0.88 | 0.850 (0.850 and 0.850) | yes |" in table
