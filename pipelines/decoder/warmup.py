"""Warming up: tiny pictures go the whole way, so that nothing needs a file later."""

import traceback
from collections.abc import Iterator

from pipelines import formats
from pipelines.decoder import session
from pipelines.decoder.refusal import Declined

_SPECS = tuple(
    {"name": "warm", "box": 40, "fit": fit, "format": kind, "quality": 80, "background": [255, 255, 255]}
    for fit, kind in (("inside", "jpeg"), ("cover", "webp"))
)


def run(limits: session.Limits) -> None:
    """Load what the codecs and Python load lazily, before anything untrusted arrives."""
    for data in _samples(limits):
        work = session.Work()
        session.make(session.check(bytearray(data), limits, work), _SPECS, limits.output, work)
    try:
        session.check(bytearray(b"nothing"), limits, session.Work())
    except Declined:
        traceback.format_exc()


def _samples(limits: session.Limits) -> Iterator[bytes]:
    for name in limits.formats:
        if formats.BY_NAME[name].engine in ("vips", limits.engine):
            yield from limits.decoder.samples(name)
