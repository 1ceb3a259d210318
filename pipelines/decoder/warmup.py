"""Warming up: tiny pictures go the whole way, so that every codec has its tables and no file is needed later."""

import os
import traceback
from collections.abc import Iterator

import pyvips

from pipelines.decoder import session
from pipelines.decoder.refusal import Refused

_WISHES = tuple(
    {"name": "warm", "box": 40, "fit": fit, "format": kind, "quality": 80, "background": [255, 255, 255]}
    for fit, kind in (("inside", "jpeg"), ("cover", "webp"))
)


def run(limits: session.Limits) -> None:
    """Load what the codecs and Python load lazily, before anything untrusted arrives."""
    staging = [os.memfd_create("warm") for _ in _WISHES]
    for data in _samples(limits.formats):
        work = session.Work()
        session.make(session.check(bytearray(data), limits, work), _WISHES, staging, work)
    try:
        session.check(bytearray(b"nothing"), limits, session.Work())
    except Refused:
        traceback.format_exc()
    for descriptor in staging:
        os.close(descriptor)


def _samples(names: tuple[str, ...]) -> Iterator[bytes]:
    tiny = (pyvips.Image.xyz(64, 48) * 4).bandjoin(128).cast("uchar").copy(interpretation="srgb")
    for name in names:
        if name in ("jpeg", "png", "webp", "gif", "tiff"):
            yield bytes(getattr(tiny, f"{name}save_buffer")())
            if name in ("png", "webp", "tiff"):
                yield bytes(getattr(tiny.bandjoin(200), f"{name}save_buffer")())
