"""How many parts the boxes of a HEIC or AVIF have: libavif makes much of each, and has no limits for them."""

from collections import Counter
from collections.abc import Iterator

from pipelines.decoder import boxes

# libavif searches all items for each that is named, and keeps kilobytes for each property of each. These are
# counts of the whole file, below what the walks of boxes read. libheif allows a thousand items, too.
_MOST = {
    "boxes": 2000,
    "items": 1000,
    "properties": 1000,
    "associations of items with properties": 8000,
    "references between items": 4000,
    "places of items": 1000,
    "parts of items": 4000,
}
# The bytes of the images that grids are made of, times those of the file, and what blank ones may take.
_SHARED, _FEW = 2, 64 * 1024
_CONTAINERS = (b"moov", b"trak")


def excess(data: bytes | bytearray) -> str:
    """Say of what a file has more than decoders are given; empty if of nothing."""
    found: Counter[str] = Counter()
    for what, count in _counts(memoryview(data), _CONTAINERS):
        found[what] += count
        if found[what] > _MOST[what]:
            return f"it has more than {_MOST[what]} {what}"
    return _shared(memoryview(data))


def _shared(data: memoryview) -> str:
    """Say how much more than the file its grids are made of: one image again and again, or the same bytes."""
    meta = next((body[4:] for kind, body in boxes.walk(data) if kind == b"meta"), data[:0])
    parts = dict(boxes.walk(meta))
    sizes = {place.item: place.bytes for place in boxes.places(parts.get(b"iloc", data[:0]))}
    named = sum(sizes.get(item, 0) for item in boxes.derived(parts.get(b"iref", data[:0])))
    if named <= _SHARED * len(data) + _FEW:
        return ""
    return f"its grid has {named / 1e6:.1f} MB of images in a file of {len(data) / 1e6:.1f} MB"


def _counts(data: memoryview, containers: tuple[bytes, ...]) -> Iterator[tuple[str, int]]:
    """Count what belongs to the file, and to each track of a sequence."""
    for kind, body in boxes.walk(data):
        yield "boxes", 1
        if kind == b"meta":
            yield from _of_meta(body[4:])
        elif kind in containers[:1]:
            yield from _counts(body, containers[1:])


def _of_meta(meta: memoryview) -> Iterator[tuple[str, int]]:
    for kind, body in boxes.walk(meta):
        yield "boxes", 1
        match kind:
            case b"iinf":
                yield from (("items", 1) for _ in boxes.items(body))
            case b"iref":
                yield from (("references between items", count) for count in boxes.references(body))
            case b"iloc":
                for place in boxes.places(body):
                    yield "places of items", 1
                    yield "parts of items", place.parts
            case b"iprp":
                yield from _of_properties(body)


def _of_properties(iprp: memoryview) -> Iterator[tuple[str, int]]:
    for kind, body in boxes.walk(iprp):
        yield "boxes", 1
        if kind == b"ipco":
            yield from (("properties", 1) for _ in boxes.walk(body))
    for associated in boxes.associations(iprp):
        yield "associations of items with properties", max(1, len(associated))
