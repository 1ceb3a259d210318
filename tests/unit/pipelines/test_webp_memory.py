"""WebP variants of noise, which take the most memory, are made; those of photos are estimated no higher."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.formats import BY_NAME, MIB
from pipelines.formats.memory import Shape
from pipelines.recipe import Variant
from pipelines.sandbox import open_sandbox
from tests.support.sandboxes import allowance, render

LARGEST = pytest.mark.campaign  # they take seconds


def noise(side: int) -> bytes:
    """A square of noise, which no encoder makes small."""
    pixels = np.random.default_rng(18).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=50)
    return file.getvalue()


@pytest.mark.parametrize(
    ("of", "side", "quality"),
    [
        (1500, 1500, 100),
        pytest.param(1920, 1920, 100, marks=LARGEST),
        pytest.param(1920, 1920, 85, marks=LARGEST),
        pytest.param(3070, 1920, 100, marks=LARGEST),
        pytest.param(2600, 2600, 95, marks=LARGEST),
        pytest.param(3726, 3726, 80, marks=LARGEST),
        pytest.param(4472, 3726, 80, marks=LARGEST),
    ],
)
async def test_webps_of_noise_are_made_with_the_memory_that_was_announced(
    of: int, side: int, quality: int
) -> None:
    variant = Variant("large", side, format="webp", quality=quality)
    async with open_sandbox(allowance(seconds=60)) as sandbox:
        rendered = await render(sandbox, noise(of), [variant])

    assert rendered is not None
    assert [one.width for one in rendered.variants] == [side]


def test_large_webps_and_those_of_high_quality_are_estimated_higher_and_usual_ones_are_not() -> None:
    def beyond_jpeg(side: int, encoder: str) -> float:
        jpeg, other = (BY_NAME["jpeg"].estimate(Shape(0, 0), 0, side**2, one) for one in ("jpeg", encoder))
        return (other - jpeg) / MIB

    assert beyond_jpeg(1920, "webp") < 9 < 30 < beyond_jpeg(1920, "webp of high quality")
    assert beyond_jpeg(3726, "webp") > 110
