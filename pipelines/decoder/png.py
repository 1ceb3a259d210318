"""PNGs without the chunks that nobody needs: in libpng kilobytes inflate to gigabytes, or each warns."""

import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# PNG, third edition, 11.3, without texts and palettes that are suggestions, and extensions (1.5.0) that many
# pictures have; iDOT is Apple's. Each may occur once; the first one counts.
ONCE = (
    *(b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"hIST"),
    *(b"pHYs", b"eXIf", b"tIME", b"oFFs", b"iDOT"),
)
_COLOUR_TYPE, _INDEXED = (
    25,
    3,
)  # where the header has it, and that of pictures whose palette is more than a hint
_ANCILLARY = 0x20  # the bit of the first letter


def strip_chunks(data: bytearray, largest_profile: int) -> bytearray:
    """Return the PNG without texts, unknown chunks, second ones of a kind, and a profile larger than that.

    Chunks without which no picture can be shown stay, known or not. In full colour palettes are no such. What
    is no PNG is returned as it is.
    """
    if not data.startswith(_SIGNATURE):
        return data
    kept, since, wanted = bytearray(), 0, {*ONCE}
    for start, end, kind in chunks(data):
        if not (kind[0] & _ANCILLARY or (kind == b"PLTE" and data[_COLOUR_TYPE] != _INDEXED)):
            continue
        superfluous = kind not in wanted
        wanted.discard(kind)
        if superfluous or (kind == b"iCCP" and not _fits(data[start + 8 : end - 4], largest_profile)):
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
