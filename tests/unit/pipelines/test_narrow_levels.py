"""AVIF in narrow range: black and white are those of the picture, whatever libheif leaves as it is stored."""

import io
from collections.abc import Iterator

import pytest
import pyvips
from PIL import Image

from pipelines.decoder import colour
from tests.support.decoder_child import DecoderProcess, spec
from tests.support.iso_boxes import nclx

LEVELS = (0, 59, 128, 190, 255)


def avif(**options: object) -> bytes:
    picture, file = Image.new("RGB", (32 * len(LEVELS), 32)), io.BytesIO()
    for place, level in enumerate(LEVELS):
        picture.paste((level, level, level), (place * 32, 0, place * 32 + 32, 32))
    picture.save(file, "AVIF", quality=98, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def shown(child: DecoderProcess, content: bytes) -> Image.Image:
    outcome = child.run(content, (spec(1000, quality=100),))
    assert outcome.status == "done", outcome.answer
    return Image.open(io.BytesIO(outcome.variants[0])).convert("RGB")


@pytest.mark.parametrize("subsampling", ["4:0:0", "4:2:0", "4:4:4"])
@pytest.mark.parametrize("told", ["by a box", "in the stream", "beside a profile"])
@pytest.mark.parametrize("levels", ["limited", "full"])
def test_narrow_levels_of_an_avif_reach_from_black_to_white(
    child: DecoderProcess, subsampling: str, told: str, levels: str
) -> None:
    content = avif(subsampling=subsampling, range=levels)
    if told != "by a box":
        content = content.replace(b"colrnclx", b"colrprof" if "profile" in told else b"freenclx")

    found = shown(child, content).convert("L")

    patches = [found.getpixel((place * 32 + 16, 16)) for place in range(len(LEVELS))]
    assert patches == pytest.approx(LEVELS, abs=3)


def test_narrow_rgb_without_a_matrix_is_stretched_alike_in_all_three(child: DecoderProcess) -> None:
    picture, file = Image.new("RGB", (64, 64), (200, 40, 40)), io.BytesIO()
    picture.save(file, "AVIF", quality=98, subsampling="4:4:4", range="limited")
    written = nclx(1, 13, 6, full=False)
    assert file.getvalue().count(written) == 1

    content = file.getvalue().replace(written, nclx(1, 13, 0, full=False))

    luma, red, blue = 91.4, 198.3, 104.3  # of that colour by BT.601: they are taken for green, red and blue
    expected = [(level - 16) * 255 / 219 for level in (red, luma, blue)]
    assert list(shown(child, content).resize((1, 1)).tobytes()) == pytest.approx(expected, abs=3)


def test_deep_levels_are_stretched_and_opacity_is_not() -> None:
    image = pyvips.Image.black(1, 1).bandjoin([0, 0, 0]).linear(1, [4096, 60_160, 32_128, 4096])
    image = image.cast("ushort").copy(interpretation="rgb16")

    stretched = colour.in_full_range(image, "narrow grey")

    assert stretched.interpretation == "rgb16"
    assert stretched(0, 0) == [0, 65_535, 32_768, 4096]
