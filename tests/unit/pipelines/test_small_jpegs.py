"""JPEGs of effort "small": what they cost is admitted before they are made, and what they are is checked."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from pipelines.recipe import Variant
from pipelines.sandbox import open_sandbox
from tests.support.decoder_child import DecoderProcess, spec
from tests.support.sandboxes import allowance, render
from tests.support.worst_cases import WORST

EFFORTS = [Variant("usual", 400), Variant("small", 400, effort="small")]


def noise(side: int) -> bytes:
    """A square of noise, which no encoder makes small."""
    pixels = np.random.default_rng(18).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    return file.getvalue()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may reset the peak of another process's memory")
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("side", [500, pytest.param(1800, marks=pytest.mark.campaign)])
def test_even_noise_takes_no_more_memory_than_was_estimated(side: int, subsampling: str) -> None:
    wanted = (spec(side, quality=100, effort="small", subsampling=subsampling),)
    with DecoderProcess(names=["png", "jpeg"]) as child:
        child.run(WORST["baseline.jpg"](100_000))
        child.peak()
        before = child.resident()
        outcome = child.run(noise(side), wanted)
        growth = child.peak() - before

    assert outcome.probe is not None
    assert outcome.status == "done"
    assert growth <= outcome.probe["estimate"]


async def test_a_sandbox_accepts_small_jpegs_beside_usual_ones_and_they_have_fewer_bytes() -> None:
    async with open_sandbox(allowance()) as sandbox:
        rendered = await render(sandbox, WORST["baseline.jpg"](500_000), EFFORTS)

    assert rendered is not None
    usual, small = (Image.open(io.BytesIO(one.content)) for one in rendered.variants)
    assert usual.size == small.size == (400, 400)
    assert (usual.info.get("progressive"), small.info.get("progressive")) == (None, 1)
    assert len(rendered.variants[1].content) < len(rendered.variants[0].content)
