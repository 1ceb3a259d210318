"""Broken pictures by the hundred, and those that once hurt a decoder: variants or an error code, in time."""

import contextlib
import io
import random
import zlib
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from pipelines import formats
from pipelines.sandbox import open_sandbox
from tests.campaigns.fuzz import CRASHERS, FuzzReport, allowance, fuzz, inputs, originals, outcome
from tests.campaigns.limits import REFUSALS
from tests.support.clients import WITH_SERVICES
from tests.support.grammar import malformed, png_chunks
from tests.support.mutations import mutant, own_pictures
from tests.support.picture_folders import picture_folders
from tests.support.structures import structured

INPUTS = 100
SEED = 8


@pytest.mark.fault(41)
async def test_a_hundred_mutants_end_in_variants_or_an_error_code() -> None:
    pictures, found = originals(picture_folders()), FuzzReport()
    small = [content for content in pictures if len(content) < 200_000]
    async with open_sandbox(allowance(seconds=10)) as sandbox:
        await fuzz(sandbox, ((f"{SEED}/{n}", mutant(SEED, n, small)) for n in range(INPUTS)), found)

    assert found.bad == []
    assert found.inputs == INPUTS
    assert found.outcomes["ready"] > INPUTS / 20
    assert found.outcomes["corrupt_image"] > INPUTS / 5


def test_the_same_seed_makes_the_same_mutants() -> None:
    pictures = originals([])

    assert [mutant(1, n, pictures) for n in range(50)] == [mutant(1, n, pictures) for n in range(50)]
    assert len({mutant(1, n, pictures) for n in range(50)}) == 50


@pytest.mark.fault(41)
@WITH_SERVICES
async def test_three_hundred_files_built_from_structure_end_in_variants_or_an_error_code() -> None:
    found = FuzzReport()
    async with open_sandbox(allowance(seconds=10)) as sandbox:
        await fuzz(sandbox, inputs(SEED, range(300), "structures", []), found)

    assert found.bad == []
    assert found.outcomes["ready"] > 300 / 10
    assert found.outcomes["corrupt_image"] > 300 / 5


def test_both_kinds_of_input_take_turns_and_the_same_seed_makes_the_same() -> None:
    pictures = originals([])
    both = list(inputs(1, range(40), "both", pictures))

    assert both == list(inputs(1, range(40), "both", pictures))
    assert [content for _, content in both[::2]] == [mutant(1, n, pictures) for n in range(0, 40, 2)]
    assert [content for _, content in both[1::2]] == [structured(1, n) for n in range(20)]


def test_files_built_from_structure_are_of_every_format() -> None:
    known = {formats.sniff(structured(1, n)[: formats.HEAD]) for n in range(200)}

    assert known >= set(formats.FORMATS)


def test_a_big_tiff_may_have_directories_and_sizes_beyond_what_a_signed_number_holds() -> None:
    files = [
        content for content in (structured(1, n) for n in range(3000)) if content[2:4] in (b"+\0", b"\0+")
    ]
    first = [int.from_bytes(file[8:16], "little" if file[:2] == b"II" else "big") for file in files]

    assert any(place >= 1 << 63 for place in first)


def changed(begins: bytes) -> list[bytes]:
    """Pictures of our own that begin so, each malformed in its grammar in forty ways."""
    known = [content for content in own_pictures() if begins in content[:12]]
    return [malformed(random.Random(n), content, b"") for content in known for n in range(40)]


def opened(contents: list[bytes]) -> int:
    """How many of them an independent decoder takes for a picture."""
    count = 0
    for content in contents:
        with contextlib.suppress(Exception):  # Pillow raises whatever a header makes it stumble over
            if b"ftyphe" in content[:12]:
                pillow_heif.open_heif(content)
            else:
                Image.open(io.BytesIO(content)).close()
            count += 1
    return count


def test_a_png_that_is_malformed_in_its_grammar_keeps_its_checksums_right() -> None:
    for content in changed(b"PNG"):
        for kind, body in png_chunks(content):
            assert kind + body + zlib.crc32(kind + body).to_bytes(4) in content


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("begins", [b"II*\0", b"II+", b"PNG", b"BM", b"JFIF", b"ftyp"])
def test_what_is_malformed_in_its_grammar_gets_past_the_first_look(begins: bytes) -> None:
    contents = changed(begins)

    assert len(set(contents)) > len(contents) / 2
    assert opened(contents) > len(contents) / 3


@pytest.mark.parametrize("crasher", sorted(CRASHERS.glob("[0-9a-f]*")), ids=lambda path: path.name)
async def test_what_once_hurt_a_decoder_hurts_none_any_more(crasher: Path) -> None:
    async with open_sandbox(allowance(decoders=1)) as sandbox:
        assert await outcome(sandbox, crasher.read_bytes()) in {"ready", *REFUSALS} - {"decode_timeout"}
