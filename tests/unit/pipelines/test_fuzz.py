"""Broken pictures by the hundred, and those that once hurt a decoder: variants or an error code, in time."""

from pathlib import Path

import pytest

from pipelines.sandbox import open_sandbox
from tests.campaigns.fuzz import CRASHERS, FuzzReport, allowance, fuzz, originals, outcome
from tests.campaigns.limits import REFUSALS, corpus_folder
from tests.support.mutations import mutant

INPUTS = 100
SEED = 8


@pytest.mark.fault(41)
async def test_a_hundred_mutants_end_in_variants_or_an_error_code() -> None:
    pictures, found = originals(corpus_folder()), FuzzReport()
    small = [content for content in pictures if len(content) < 200_000]
    async with open_sandbox(allowance(seconds=10)) as sandbox:
        await fuzz(sandbox, ((f"{SEED}/{n}", mutant(SEED, n, small)) for n in range(INPUTS)), found)

    assert found.bad == []
    assert found.inputs == INPUTS
    assert found.outcomes["ready"] > INPUTS / 20
    assert found.outcomes["corrupt_image"] > INPUTS / 5


def test_the_same_seed_makes_the_same_mutants() -> None:
    pictures = originals(None)

    assert [mutant(1, n, pictures) for n in range(50)] == [mutant(1, n, pictures) for n in range(50)]
    assert len({mutant(1, n, pictures) for n in range(50)}) == 50


@pytest.mark.parametrize("crasher", sorted(CRASHERS.glob("[0-9a-f]*")), ids=lambda path: path.name)
async def test_what_once_hurt_a_decoder_hurts_none_any_more(crasher: Path) -> None:
    async with open_sandbox(allowance(decoders=1)) as sandbox:
        assert await outcome(sandbox, crasher.read_bytes()) in {"ready", *REFUSALS} - {"decode_timeout"}
