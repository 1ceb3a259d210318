"""PNGs without the compressed chunks that nobody needs: kilobytes of them inflate to gigabytes in libpng."""

import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"zTXt", b"iTXt", b"tEXt")


def strip_chunks(data: bytearray, largest_profile: int) -> bytearray:
    """Return the PNG without its texts and without a profile larger than that; anything else as it is."""
    if not data.startswith(_SIGNATURE):
        return data
    kept, since = bytearray(), 0
    for start, end, kind in chunks(data):
        if kind in _TEXTS or (kind == b"iCCP" and not _fits(data[start + 8 : end - 4], largest_profile)):
            kept += memoryview(data)[since:start]
            since = end
    return kept + memoryview(data)[since:] if since else data


def chunks(data: bytearray) -> Iterator[tuple[int, int, bytes]]:
    start = len(_SIGNATURE)
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4])
        yield start, min(end, len(data)), bytes(data[start + 4 : start + 8])
        start = end


def _fits(body: bytearray, largest: int) -> bool:
    compressed = body[body.find(b"\0") + 2 :]
    try:
        return len(zlib.decompressobj().decompress(compressed, largest + 1)) <= largest
    except zlib.error:
        return True  # libpng says what it thinks of it
