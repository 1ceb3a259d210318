"""Pictures that cost a decoder most for the bytes they have: huge, compressible, in the worst order."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from math import isqrt

import pillow_heif
import pyvips
from PIL import Image

from tests.support.iso_boxes import numbered

Picture = Callable[[int], bytes]
"""Makes a picture of about so many pixels."""

_TILE = 2048


def _scene(pixels: int, bands: int = 3, *, deep: bool = False, widest: int = 10_000) -> pyvips.Image:
    width = min(isqrt(pixels), widest)
    return _tiled_scene(width, min(pixels // width, widest), bands, deep=deep)


def _tiled_scene(width: int, height: int, bands: int = 3, *, deep: bool = False) -> pyvips.Image:
    waves = pyvips.Image.xyz(_TILE, _TILE).linear([0.005, 0.007], [0, 0]).math("sin")
    mixed = waves.bandjoin(waves[0] * waves[1]) if bands != 1 else waves[0]
    mixed = (mixed * 0.5 + 0.5) * (65535 if deep else 255)
    mixed = mixed.cast("ushort" if deep else "uchar")
    if bands == 4:
        mixed = mixed.bandjoin(mixed[0])
    kind = {1: "b-w", 3: "srgb", 4: "srgb"}[bands]
    tile = mixed.copy_memory()  # a hundred million sines would take seconds
    mixed = tile.replicate(-(-width // _TILE), -(-height // _TILE)).crop(0, 0, width, height)
    return mixed.copy(interpretation=kind if not deep else "rgb16")


def _jpeg(pixels: int, **options: object) -> bytes:
    return bytes(_scene(pixels).jpegsave_buffer(Q=60, **options))


def _panorama(pixels: int, **options: object) -> bytes:
    """Nine times as wide as it is high: before it is cut to a square, it is scaled to the square's height."""
    height = isqrt(pixels // 9)
    return bytes(_tiled_scene(height * 9, height).jpegsave_buffer(Q=60, **options))


def _low(pixels: int, width: int = 60_000) -> pyvips.Image:
    """A wide and low scene: each of its rows takes much, and few of them make one of a variant."""
    return _tiled_scene(width, pixels // width)


def _low_png(pixels: int) -> bytes:
    return bytes(_low(pixels).pngsave_buffer(compression=1))


def _low_jpeg(pixels: int) -> bytes:
    return bytes(_low(pixels).jpegsave_buffer(Q=40))


def _many_scans(pixels: int) -> bytes:
    """A baseline JPEG with one scan for each component: all coefficients are kept."""
    width = height = min(isqrt(pixels), 10_000) // 8 * 8
    blocks = (width // 8) * (height // 8)
    # Every block is "no difference, end of block": one bit each with these tables.
    table = b"\x00" + bytes([1]) + bytes(15) + b"\x00"
    parts = [b"\xff\xd8", b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([16] * 64)]
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"".join(bytes([n, 0x11, 0]) for n in (1, 2, 3))
    parts += [b"\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame]
    for kind in (0x00, 0x10):
        parts += [b"\xff\xc4" + struct.pack(">HB", 20, kind) + table[1:]]
    for component in (1, 2, 3):
        parts += [b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, component, 0, 0, 63, 0)]
        parts += [bytes(-(-blocks * 2 // 8))]
    return b"".join([*parts, b"\xff\xd9"])


def _png(pixels: int, bands: int = 3, *, deep: bool = False, interlace: bool = False) -> bytes:
    width = height = isqrt(pixels)
    line = b"\x02" + bytes(width * bands * (2 if deep else 1))  # the same as the line above
    first = b"\x00" + bytes(n * 7 % 256 for n in range(len(line) - 1))
    packer = zlib.compressobj(6)
    if interlace:
        packed = _interlaced(width, height, bands * (2 if deep else 1), packer)
    else:
        packed = packer.compress(first) + b"".join(packer.compress(line) for _ in range(height - 1))
        packed += packer.flush()
    depth, colour = 16 if deep else 8, {1: 0, 3: 2, 4: 6}[bands]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlace))
    chunks = (b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _pq_png(pixels: int, **options: bool) -> bytes:
    """Sixteen bits of BT.2020 and PQ, each pixel of which is decoded to light and compressed."""
    png = _png(pixels, bands=4, deep=True, **options)
    return png[:33] + _chunk(b"cICP", bytes(_BT2020_PQ[:2]) + b"\0\1") + png[33:]


def _interlaced(width: int, height: int, step: int, packer: "zlib._Compress") -> bytes:
    packed = b""
    for left, top, across, down in _PASSES:
        wide, high = -(-(width - left) // across), -(-(height - top) // down)
        line = b"\x02" + bytes(wide * step)
        packed += packer.compress(b"\x00" + bytes(n * 7 % 256 for n in range(wide * step)))
        packed += b"".join(packer.compress(line) for _ in range(high - 1))
    return packed + packer.flush()


_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _webp(pixels: int, bands: int = 3, **options: object) -> bytes:
    return bytes(_scene(pixels, bands).webpsave_buffer(Q=50, effort=0, **options))


def _avif(pixels: int, bands: int = 3) -> bytes:
    return bytes(_scene(pixels, bands).heifsave_buffer(Q=30, compression="av1", effort=0))


def _heic(pixels: int) -> bytes:
    scene = _scene(pixels)
    file = io.BytesIO()
    heif = pillow_heif.from_bytes("RGB", (scene.width, scene.height), scene.write_to_memory())
    heif.save(file, quality=20, enc_params={"preset": "ultrafast"})
    return file.getvalue()


def _pq_avif(pixels: int, bands: int = 3) -> bytes:
    scene = _scene(pixels, bands, deep=True)
    content = scene.heifsave_buffer(Q=30, compression="av1", effort=0, bitdepth=10)
    return numbered(bytes(content), *_BT2020_PQ[:2])


def _pq_heic(pixels: int, bands: int = 3) -> bytes:
    scene = _scene(pixels, bands, deep=True)
    numbers = dict(zip(_NUMBERS, _BT2020_PQ, strict=True))
    file = io.BytesIO()
    mode = "RGB;16" if bands == 3 else "RGBA;16"
    heif = pillow_heif.from_bytes(mode, (scene.width, scene.height), scene.write_to_memory())
    heif.save(file, quality=20, enc_params={"preset": "ultrafast"}, **numbers)
    return file.getvalue()


_NUMBERS = ("color_primaries", "transfer_characteristics", "matrix_coefficients")
_BT2020_PQ = (9, 16, 9)  # ITU-T H.273


def gif(pixels: int, frames: int = 5000) -> bytes:
    """A GIF with a large canvas and many frames, each a few pixels."""
    side = isqrt(pixels)
    file = io.BytesIO()
    Image.new("P", (side, side), 3).save(file, "GIF")
    body = file.getvalue()[:-1]  # without the end
    dot = struct.pack("<BHHHHB", 0x2C, 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return body + dot * (frames - 1) + b";"


def _tiff(pixels: int, **options: object) -> bytes:
    scene = _scene(pixels)
    strips = {"tile": False, "rowsperstrip": 1_000_000}
    del strips["rowsperstrip"]  # libvips writes strips of its own size; Pillow takes a size
    image = Image.frombuffer("RGB", (scene.width, scene.height), scene.write_to_memory())
    file = io.BytesIO()
    image.save(file, "TIFF", compression="tiff_adobe_deflate", strip_size=2**31 - 1, **options)
    return file.getvalue()


def _repeated_tiff(
    pixels: int, bits: int, compression: int, photometric: int, bands: int = 1, kind: int = 1
) -> bytes:
    """A TIFF each of whose tiles is the same bytes; with more than one band, plane by plane."""
    across = down = isqrt(pixels) // 256
    tile = b"".join(bytes([n % 256] * (256 * bits // 8)) for n in range(256))
    packed = zstd_raw(tile) if compression == _ZSTD else zlib.compress(tile, 9)
    count = across * down * bands
    lists = [struct.pack(f"<{bands}H", *[number] * bands) for number in (bits, kind)]
    lists += [struct.pack(f"<{count}I", *[number] * count) for number in (8, len(packed))]
    places, at = [], 8 + len(packed)
    for one in lists:
        places.append(at)
        at += len(one)
    depth, formats = (
        place if bands > 2 else value for place, value in zip(places, (bits, kind), strict=False)
    )
    entries = [
        *((256, 4, 1, across * 256), (257, 4, 1, down * 256), (258, 3, bands, depth)),
        *(
            (259, 3, 1, compression),
            (262, 3, 1, photometric),
            (277, 3, 1, bands),
            (284, 3, 1, 2 if bands > 1 else 1),
        ),
        *((322, 3, 1, 256), (323, 3, 1, 256), (324, 4, count, places[2]), (325, 4, count, places[3])),
        (339, 3, bands, formats),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", at) + packed + b"".join(lists) + directory + bytes(4)


_DEFLATE, _ZSTD = 8, 50000
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_FLOAT, _SIGNED = 3, 2


def zstd_raw(content: bytes) -> bytes:
    """A frame of Zstandard (RFC 8878) whose blocks are stored as they are, or say a byte and how often."""
    blocks = []
    for start in range(0, len(content), _ZSTD_BLOCK):
        block = content[start : start + _ZSTD_BLOCK]
        last = start + _ZSTD_BLOCK >= len(content)
        same = block.count(block[:1]) == len(block)
        head = (len(block) << 3) | (1 << 1 if same else 0) | last
        blocks.append(head.to_bytes(3, "little") + (block[:1] if same else block))
    # A single segment of a size in eight bytes.
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", len(content)) + b"".join(blocks)


_ZSTD_BLOCK = 512


def runs(pixels: int, bits: int = 8) -> bytes:
    """A BMP with run lengths: 255 pixels in two bytes."""
    side = isqrt(pixels)
    full, rest = divmod(side, 255)
    line = b"\xff\x05" * full + (bytes([rest, 5]) if rest else b"") + b"\0\0"
    body = line * side + b"\0\1"
    palette = b"".join(bytes([n, 255 - n, n // 2, 0]) for n in range(1 << bits))
    offset = 14 + 40 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
    way = {8: 1, 4: 2}[bits]
    header += struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, way, len(body), 2835, 2835, 1 << bits, 0)
    return header + palette + body


WORST: Mapping[str, Picture] = {
    "progressive.jpg": partial(_jpeg, interlace=True),
    "progressive-444.jpg": partial(_jpeg, interlace=True, subsample_mode="off"),
    "baseline.jpg": partial(_jpeg, subsample_mode="off"),
    "scans.jpg": _many_scans,
    "interlaced-rgba16.png": partial(_png, bands=4, deep=True, interlace=True),
    "interlaced.png": partial(_png, interlace=True),
    "rgba16.png": partial(_png, bands=4, deep=True),
    "plain.png": _png,
    "low.png": _low_png,
    "low.jpg": _low_jpeg,
    "lossy.webp": _webp,
    "lossy-alpha.webp": partial(_webp, bands=4),
    "lossless.webp": partial(_webp, lossless=True),
    "photo.avif": _avif,
    "photo.heic": _heic,
    "frames.gif": gif,
    "one-strip.tif": _tiff,
    "runs.bmp": runs,
    "runs-4.bmp": partial(runs, bits=4),
    "pq.png": _pq_png,
    "pq-interlaced.png": partial(_pq_png, interlace=True),
    "pq.avif": _pq_avif,
    "pq-alpha.avif": partial(_pq_avif, bands=4),
    "pq.heic": _pq_heic,
    "pq-alpha.heic": partial(_pq_heic, bands=4),
    "planes.tif": partial(_repeated_tiff, bits=8, compression=_DEFLATE, photometric=_RGB, bands=3),
    "planes-16.tif": partial(_repeated_tiff, bits=16, compression=_ZSTD, photometric=_RGB, bands=3),
    "white-is-zero.tif": partial(_repeated_tiff, bits=16, compression=_ZSTD, photometric=_WHITE_IS_ZERO),
    "float.tif": partial(
        _repeated_tiff, bits=32, compression=_DEFLATE, photometric=_BLACK_IS_ZERO, kind=_FLOAT
    ),
    "float-zstd.tif": partial(
        _repeated_tiff, bits=32, compression=_ZSTD, photometric=_BLACK_IS_ZERO, kind=_FLOAT
    ),
    "signed.tif": partial(
        _repeated_tiff, bits=16, compression=_DEFLATE, photometric=_BLACK_IS_ZERO, kind=_SIGNED
    ),
    "panorama.jpg": _panorama,
    "panorama-progressive.jpg": partial(_panorama, interlace=True),
}
