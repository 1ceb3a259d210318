"""What pictures of few bytes may cost: the costliest known are refused by their header, or take little."""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pipelines import formats
from pipelines.decoder import boxes, jpeg, webp
from pipelines.recipe import BUILT_IN, Variant
from pipelines.sandbox.answers import Probed
from pipelines.sandbox.time_limit import cpu_limit
from tests.campaigns.costs import Cost, table
from tests.support.costly_pictures import COSTLY, grid, scans, tiff_tiles, webp_frames
from tests.support.decoder_child import DecoderProcess, Outcome

SLOWER = 3  # than the machine on which the limits were measured, a machine of tests may be


@pytest.fixture(scope="module")
def decoders() -> Iterator[dict[str, DecoderProcess]]:
    with DecoderProcess("vips") as vips, DecoderProcess("pillow") as pillow:
        yield {"vips": vips, "pillow": pillow}


def pushed(decoders: dict[str, DecoderProcess], content: bytes) -> tuple[Outcome, float]:
    """What comes of it, and the CPU seconds that it takes."""
    known = formats.sniff(content[: formats.HEAD])
    child = decoders[known.engine if known else "vips"]
    before = child.cpu_ms()
    return child.run(content), (child.cpu_ms() - before) / 1000


CHEAP_TO_MAKE = [
    name for name in COSTLY if "noise" not in name and "AVIF: a grid of one cell, 64" not in name
]


@pytest.mark.rotating(4)
@pytest.mark.parametrize("name", CHEAP_TO_MAKE)
def test_the_costliest_pictures_known_take_little(decoders: dict[str, DecoderProcess], name: str) -> None:
    content = COSTLY[name]()
    _, seconds = pushed(decoders, content)

    assert not Cost(name, len(content), seconds / SLOWER, "").is_too_much


REFUSED = {
    "more than 60 scans of 100.0 megapixels": lambda: scans(10_000, 85),
    "883 scans of 36.0 megapixels": lambda: tiff_tiles(1, 1, side=6000, codec=7, content=scans(6000, 883)),
    "30000 tiles of 16 x 16 pixels": lambda: tiff_tiles(200, 150),
    "20.6 million numbers in": lambda: tiff_tiles(315, 1, side=256, bits=32, kind=3, codec=8),
    "99.7 megapixels of 17 8-bit samples in": lambda: tiff_tiles(39, 39, side=256, bands=17, codec=8),
    "altogether that share": lambda: tiff_tiles(
        30, 30, side=256, codec=8, content=zlib.compress(bytes(65536)).ljust(40_000, b"\0")
    ),
    "of images in a file of": lambda: grid("heic", 6, 6),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_costs_more_than_its_bytes_are_worth_is_refused_by_its_header(
    decoders: dict[str, DecoderProcess], words: str
) -> None:
    outcome, seconds = pushed(decoders, REFUSED[words]())

    assert outcome.code == "unsupported_format"
    assert words in outcome.answer["message"]
    assert outcome.probe is None
    assert seconds < 0.1 * SLOWER


HONEST = {
    "a small JPEG of 500 scans": lambda: scans(64, 500),
    "a large JPEG of 20 scans": lambda: scans(9000, 20),
    "a TIFF of 20,000 small tiles": lambda: tiff_tiles(200, 100),
    "a TIFF of 15 megapixels of floats": lambda: tiff_tiles(15, 15, side=256, bits=32, kind=3, codec=8),
    "blank tiles that share their bytes": lambda: tiff_tiles(30, 30, side=256, codec=8),
    "a grid of images that differ": lambda: grid("heic", 2, 2, side=64, distinct=4),
    "a grid of blank images": lambda: grid("avif", 4, 4, side=64, distinct=1),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_is_worth_its_time_is_ready(decoders: dict[str, DecoderProcess], name: str) -> None:
    outcome, _ = pushed(decoders, HONEST[name]())

    assert outcome.status == "done", outcome.answer


def test_scans_of_a_picture_behind_the_first_one_do_not_count() -> None:
    first, behind = bytearray(scans(64, 3)), scans(64, 400)

    assert jpeg.excess(first + behind, 100_000_000) == ""
    assert jpeg.excess(bytearray(behind), 100_000_000) == "more than 60 scans of 100.0 megapixels"


def test_of_a_webp_of_very_many_frames_the_first_is_shown(decoders: dict[str, DecoderProcess]) -> None:
    outcome, seconds = pushed(decoders, webp_frames(20_000))

    assert outcome.status == "done", outcome.answer
    assert Image.open(io.BytesIO(outcome.variants[0])).getpixel((0, 0)) == pytest.approx((9, 99, 199), abs=6)
    assert seconds < 0.1 * SLOWER


def test_a_webp_of_very_many_frames_that_ends_too_early_is_damaged(
    decoders: dict[str, DecoderProcess],
) -> None:
    outcome, _ = pushed(decoders, webp_frames(20_000)[:-9])

    assert outcome.code == "corrupt_image"


def test_a_webp_of_usual_length_is_handed_over_as_it_is() -> None:
    content = bytearray(webp_frames(900))

    assert webp.first_frames(content) is content


def test_the_bytes_of_an_item_are_those_of_all_its_parts() -> None:
    iloc = b"\0\0\0\0\x44\0" + (1).to_bytes(2) + (7).to_bytes(2) + bytes(2) + (2).to_bytes(2)
    iloc += b"".join(number.to_bytes(4) for number in (100, 30, 200, 12))

    [place] = boxes.places(memoryview(iloc))
    assert (place.item, place.parts, place.bytes) == (7, 2, 42)


def probed(width: int, height: int) -> Probed:
    return Probed(status="probed", sha256="0" * 64, format="jpeg", width=width, height=height, estimate=0)


def test_the_time_for_a_picture_grows_with_its_pixels_bytes_and_variants() -> None:
    thumb = [Variant("thumb", 100)]

    assert cpu_limit(20, probed(100, 100), 1000, thumb) == pytest.approx(2.1, abs=0.11)
    assert cpu_limit(20, probed(4000, 3000), 3_000_000, thumb) == pytest.approx(13.1, abs=0.11)
    avif = [Variant("large", 2000, format="avif")]
    assert cpu_limit(20, probed(2000, 1000), 1000, avif) == pytest.approx(12.6, abs=0.11)


def test_no_picture_gets_more_than_the_time_that_is_set() -> None:
    usual = BUILT_IN["default"].variants

    assert cpu_limit(0.5, probed(100, 100), 1000, usual) == 0.5
    assert cpu_limit(20, probed(10_000, 10_000), 10_000_000, usual) == 20


def test_the_table_of_costs_has_the_costliest_of_each_format_small_ones_apart() -> None:
    found = [Cost("PNG: one", 10, 0.1, "ready"), Cost("PNG: two", 20, 0.4, "ready")]

    assert table([*found, Cost("PNG: three", 200_000, 0.3, "corrupt_image")]).splitlines()[2:] == [
        "| PNG | two | 20 | 0.4 | `ready` |",
        "| PNG | three | 200,000 | 0.3 | `corrupt_image` |",
    ]


def test_the_documented_table_knows_every_format_and_pictures_that_are_still_there() -> None:
    page = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
    written = page.partition("<!-- costs -->\n")[2].partition("<!-- end")[0]
    rows = [line.split(" | ") for line in written.splitlines()[2:]]

    assert {row[0].strip("| ") for row in rows} == {name.partition(":")[0] for name in COSTLY}
    assert {f"{row[0].strip('| ')}: {row[1]}" for row in rows} <= {*COSTLY}
