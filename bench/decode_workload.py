"""`python -m bench.decode_workload FIRST COUNT TIMES`: makes the variants of one photo, in this process."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.counter import counts_of, say_count
from pipelines.decoder import reading, session, vips
from pipelines.formats import MIB
from pipelines.recipe import DEFAULT

_PHOTO = Path(__file__).parent.parent / "scripts" / "pictures" / "cairn.jpg"


def decode(counts: Sequence[int]) -> None:
    """Decode as a decoder does, but unconfined: valgrind cannot live under Landlock.

    After each of `counts`, valgrind says what has been counted.
    """
    vips.set_up(("jpeg",))
    output = os.memfd_create("variants")
    limits = session.Limits("vips", 100 * MIB, 100_000_000, ("jpeg",), "reject", vips, output)
    specs = [asdict(variant) for variant in DEFAULT.variants]
    wanted = {variant.name for variant in DEFAULT.variants}
    photo = _PHOTO.read_bytes()
    for count in counts:
        for _ in range(count):
            work = session.Work()
            variants = reading.Output(output)
            session.make(session.check(bytearray(photo), limits, work), specs, variants, work, wanted)
            os.ftruncate(output, 0)
        say_count()


if __name__ == "__main__":
    decode(counts_of(sys.argv))
