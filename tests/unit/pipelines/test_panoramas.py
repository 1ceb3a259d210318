"""Wide and low pictures: what scaling them takes is a number of their rows, not a share of the picture."""

import io
import os
from typing import Any

import pytest
from PIL import Image

from pipelines.formats import MIB
from tests.support.decoder_child import DEFAULT, DecoderProcess, spec
from tests.support.worst_cases import WORST

PIXELS = 12_000_000
RECIPES = {
    "inside": DEFAULT,
    "cover": (spec(100, fit="cover"),),
    "attention": (spec(150, fit="cover", crop="attention"),),
    "entropy": (spec(190, fit="cover", crop="entropy"),),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may reset the peak of another process's memory")
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["low.png", "low.jpg"])
@pytest.mark.rotating(2)
def test_a_panorama_takes_no_more_memory_than_was_estimated(kind: str, recipe: str) -> None:
    content = WORST[kind](PIXELS)
    with DecoderProcess(names=["jpeg", "png"]) as child:
        child.run(WORST["baseline.jpg"](100_000))
        child.peak()
        before = child.resident()
        outcome = child.run(content, RECIPES[recipe])
        growth = child.peak() - before

    assert outcome.status == "done"
    assert outcome.probe is not None
    assert growth <= outcome.probe["estimate"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may reset the peak of another process's memory")
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(
    ("size", "kind", "most"),
    [
        ((3264, 2176), "JPEG", 1.0),
        ((2900, 2900), "PNG", 1.0),  # streamed, as the next
        ((2900, 2900), "JPEG", 1.12),  # what is above it is in reach of what the guard overlooks
    ],
)
@pytest.mark.rotating(2)
def test_a_picture_that_is_hardly_scaled_down_takes_no_more_memory_than_was_estimated(
    size: tuple[int, int], kind: str, most: float, orientation: int
) -> None:
    picture, exif, file = Image.effect_noise(size, 50).convert("RGB"), Image.Exif(), io.BytesIO()
    exif[0x112] = orientation
    picture.save(file, kind, exif=exif, **({"compress_level": 1} if kind == "PNG" else {}))
    with DecoderProcess(names=["jpeg", "png"], max_bytes=40 * MIB) as child:
        child.run(WORST["baseline.jpg"](100_000))
        child.peak()
        before = child.resident()
        outcome = child.run(file.getvalue(), (spec(size[0] - 1),))
        growth = child.peak() - before

    assert outcome.probe is not None
    assert growth <= most * outcome.probe["estimate"]


def test_a_usual_photo_is_estimated_as_before() -> None:
    estimates: list[Any] = []
    with DecoderProcess(names=["jpeg"]) as child:
        for recipe in (DEFAULT, DEFAULT[2:]):
            probe = child.run(WORST["baseline.jpg"](PIXELS), recipe, proceed=False).probe
            estimates.append(probe and probe["estimate"] >> 20)

    assert estimates[0] == estimates[1] < 52
