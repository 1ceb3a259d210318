"""Pictures whose samples stand for light: the encoding side of PQ, HLG and wide gamuts, written anew."""

import io
import math
import struct
import zlib
from collections.abc import Sequence

import pillow_heif
import pyvips

from tests.support.iso_boxes import numbered

Colour = tuple[float, ...]

SIDE = 64
WHITE = 203  # cd/m2
# ITU-R BT.2087, 4: from the light of BT.709 to that of BT.2020.
_TO_BT2020 = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.088, 0.8956))


def linear(level: float) -> float:
    """The light of an sRGB level from 0 to 255, as a part of white's."""
    signal = level / 255
    return signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4


def bt2020(colour: Colour) -> Colour:
    """The light of an sRGB colour in BT.2020's primaries; a grey has one band."""
    light = [linear(level) for level in colour]
    if len(light) == 1:
        return tuple(light)
    return tuple(sum(a * b for a, b in zip(row, light, strict=True)) for row in _TO_BT2020)


def pq(candelas: float) -> float:
    """The signal of so many cd/m2 (ITU-R BT.2100, table 4)."""
    power = math.pow(candelas / 10_000, 2610 / 16384)
    return math.pow((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power), 2523 / 32)


def hlg(scene: float) -> float:
    """The signal of scene light from 0 to 1 (ITU-R BT.2100, table 5)."""
    if scene <= 1 / 12:
        return math.sqrt(3 * scene)
    return 0.17883277 * math.log(12 * scene - 0.28466892) + 0.55991073


def in_pq(colour: Colour, brighter: float = 1) -> Colour:
    return tuple(pq(WHITE * brighter * light) for light in bt2020(colour))


def in_hlg(colour: Colour, brighter: float = 1) -> Colour:
    """The signals that a display of 1000 cd/m2 shows as that colour, by the inverse of its system gamma."""
    shown = [WHITE / 1000 * brighter * light for light in bt2020(colour)]
    weights = (0.2627, 0.678, 0.0593) if len(shown) == 3 else (1,)
    luminance = sum(a * b for a, b in zip(weights, shown, strict=True))
    return tuple(hlg(light * luminance ** (1 / 1.2 - 1)) for light in shown)


def patches(signals: Sequence[Colour], depth: int) -> pyvips.Image:
    """Squares of these colours, from 0 to 1, side by side, in 8 or 16 bits."""
    code, top = ("B", 255) if depth == 8 else ("H", 65535)
    row = b"".join(
        struct.pack(f"={len(signal)}{code}", *(round(min(1, part) * top) for part in signal)) * SIDE
        for signal in signals
    )
    bands = len(signals[0])
    image = pyvips.Image.new_from_memory(
        row * SIDE, SIDE * len(signals), SIDE, bands, "uchar" if depth == 8 else "ushort"
    )
    kinds = ("b-w", "srgb") if depth == 8 else ("grey16", "rgb16")
    return image.copy(interpretation=kinds[bands > 2])


def png(signals: Sequence[Colour], depth: int, *chunks: bytes, **options: object) -> bytes:
    """A PNG with chunks before its pixels."""
    content = bytes(patches(signals, depth).pngsave_buffer(compression=1, **options))
    return content[:33] + b"".join(chunks) + content[33:]


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> bytes:
    """The chunk of numbers (PNG, third edition, 11.3.2.6)."""
    return chunk(b"cICP", bytes([primaries, transfer, matrix, full]))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def avif(signals: Sequence[Colour], depth: int, primaries: int, transfer: int) -> bytes:
    """An AVIF of 8, 10 or 12 bits with these numbers."""
    image = patches(signals, 8 if depth == 8 else 16)
    options = {"compression": "av1", "Q": 98, "effort": 0, "subsample_mode": "off"}
    return numbered(bytes(image.heifsave_buffer(bitdepth=depth, **options)), primaries, transfer)


def heic(
    signals: Sequence[Colour],
    depth: int,
    primaries: int,
    transfer: int,
    *,
    full: bool = True,
    **options: object,
) -> bytes:
    """A HEIC of 8, 10 or 12 bits with these numbers."""
    image, file = patches(signals, 8 if depth == 8 else 16), io.BytesIO()
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[image.bands] + ("" if depth == 8 else ";16")
    numbers = {"color_primaries": primaries, "transfer_characteristics": transfer, "full_range_flag": full}
    pillow_heif.options.SAVE_HDR_TO_12_BIT = depth == 12
    try:
        pillow_heif.encode(
            mode,
            (image.width, image.height),
            image.write_to_memory(),
            file,
            **{"quality": 98, "chroma": 444, "matrix_coefficients": 9, **numbers, **options},
        )
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    return file.getvalue()
