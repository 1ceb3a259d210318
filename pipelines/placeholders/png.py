"""PNG: the smallest file that shows a placeholder's pixels in any browser."""

import zlib
from base64 import b64encode
from struct import pack

from pipelines.placeholders.cosines import Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EIGHT_BITS, _RGB = 8, 2


def data_url(pixels: Pixels) -> str:
    """The picture as a `data:` URL."""
    return f"data:image/png;base64,{b64encode(png(pixels)).decode()}"


def png(pixels: Pixels) -> bytes:
    """The picture as a PNG."""
    step = 3 * pixels.width
    rows = b"".join(b"\0" + pixels.rgb[at : at + step] for at in range(0, len(pixels.rgb), step))
    head = pack(">IIBBBBB", pixels.width, pixels.height, _EIGHT_BITS, _RGB, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))
