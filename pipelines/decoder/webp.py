"""WebPs without the frames that nobody needs: libwebp walks all of them, for each of them."""

from collections.abc import Iterator

_MOST_FRAMES = 1000
_FRAME = b"ANMF"


def first_frames(data: bytearray) -> bytearray:
    """Return a WebP of more frames than that without all but the first; what is no such is returned as it is.

    A file that ends within a chunk stays one that does, so that its decoder finds it damaged.
    """
    if data.count(_FRAME) <= _MOST_FRAMES:
        return data
    kept, frames = bytearray(), 0
    for start, end, kind in _chunks(data):
        frames += kind == _FRAME
        if kind != _FRAME or frames == 1 or end > len(data):
            kept += memoryview(data)[start:end]
    if frames <= _MOST_FRAMES:
        return data
    return bytearray(b"RIFF" + (len(kept) + 4).to_bytes(4, "little") + b"WEBP") + kept


def _chunks(data: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Walk the chunks (RFC 9649, 2.3): where each begins and ends, and of which kind it is."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        yield at, end, bytes(data[at : at + 4])
        at = end
