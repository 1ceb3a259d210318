"""`python -m bench.decode_workload COUNT`: makes the variants of one photo so often, in this process."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

from pipelines.decoder import session, vips
from pipelines.formats import MIB
from pipelines.recipe import DEFAULT

_PHOTO = Path(__file__).parent.parent / "scripts" / "pictures" / "cairn.jpg"


def decode(count: int) -> None:
    """Decode as a decoder does, but unconfined: valgrind cannot live under Landlock."""
    vips.set_up(("jpeg",))
    output = os.memfd_create("variants")
    limits = session.Limits("vips", 100 * MIB, 100_000_000, ("jpeg",), "reject", vips, output)
    specs = [asdict(variant) for variant in DEFAULT.variants]
    wanted = {variant.name for variant in DEFAULT.variants}
    photo = _PHOTO.read_bytes()
    for _ in range(count):
        work = session.Work()
        session.make(session.check(bytearray(photo), limits, work), specs, output, work, wanted)
        os.ftruncate(output, 0)


if __name__ == "__main__":
    decode(int(sys.argv[1]))
