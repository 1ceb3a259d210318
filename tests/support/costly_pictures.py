"""Pictures of few bytes that cost a decoder the most time that anybody has found, for each format."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import isqrt

import pillow_heif
from PIL import Image

from tests.support.bombs import inflating
from tests.support.iso_boxes import box
from tests.support.worst_cases import WORST, gif, runs

_MP = 1_000_000


# ---- PNG


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(side: int, *extra: bytes, bands: int = 4, depth: int = 16, filter_type: int = 4) -> bytes:
    """Filtered by Paeth's predictor, which costs most, and so many chunks before its pixels."""
    packer, line = zlib.compressobj(9), bytes([filter_type]) + bytes(side * bands * depth // 8)
    packed = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, {1: 0, 3: 2, 4: 6}[bands], 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), *extra, _chunk(b"IDAT", packed), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _small_png(extra: bytes) -> bytes:
    return _png(8, extra)


def _apng(frames: int) -> bytes:
    """An animation of so many frames of one pixel."""
    pixel = zlib.compress(b"\0" * 9)
    each = [
        _chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * n + 1, 1, 1, 0, 0, 1, 10, 0, 0))
        + _chunk(b"fdAT", struct.pack(">I", 2 * n + 2) + pixel)
        for n in range(frames)
    ]
    still = _png(8, _chunk(b"acTL", struct.pack(">II", frames + 1, 0)))
    return still[:-12] + b"".join(each) + still[-12:]


# ---- WebP


def webp_frames(count: int) -> bytes:
    """An animation of so many frames of one pixel."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1), (9, 99, 199)).save(file, "WEBP", lossless=True)
    still = file.getvalue()[12:]
    frame = bytes(12) + struct.pack("<I", 10)[:3] + b"\0" + still
    chunks = _riff(b"VP8X", b"\x02" + bytes(9)) + _riff(b"ANIM", bytes(6)) + _riff(b"ANMF", frame) * count
    return _riff(b"RIFF", b"WEBP" + chunks)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _webp_chunks(count: int) -> bytes:
    """Unknown chunks before the picture."""
    file = io.BytesIO()
    Image.new("RGBA", (1, 1), (9, 99, 199, 9)).save(file, "WEBP", lossless=True)
    body = _riff(b"VP8X", b"\x10" + bytes(9)) + _riff(b"none", b"") * count + file.getvalue()[12:]
    return _riff(b"RIFF", b"WEBP" + body)


# ---- JPEG


def scans(side: int, count: int, *, arithmetic: bool = False, repeated: bool = False) -> bytes:
    """A progressive JPEG of nothing but zeros, with so many scans."""
    parts = [b"\xff\xd8", b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([16] * 64)]
    frame = struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])
    parts += [bytes([0xFF, 0xCA if arithmetic else 0xC2]) + struct.pack(">H", len(frame) + 2) + frame]
    # With this table zeros mean: no difference, or the end of a band of 32,767 blocks.
    for kind, symbol in ((0x00, 0), (0x10, 0xE0)):
        table = b"\x01" + bytes(15) + bytes([symbol])
        parts += [b"\xff\xc4" + struct.pack(">HB", 20, kind) + table]
    blocks = (-(-side // 8)) ** 2
    parts += [_scan(0, 0, 0, bytes(-(-blocks // 8) if not arithmetic else 0))]
    ends = bytes(-(-(blocks // 16384 + 1) * 15 // 8) if not arithmetic else 0)
    for number in range(count - 1):
        band, low = 1 + number % 63, 13 - number // 63
        before = low + 1 if number >= 63 else 0
        parts += [_scan(1, 63, 0, ends) if repeated else _scan(band, band, before << 4 | low, ends)]
    return b"".join([*parts, b"\xff\xd9"])


def _noisy_jpeg(side: int) -> bytes:
    """As many bytes as are accepted, each of them a code."""
    file = io.BytesIO()
    noise = Image.frombytes("L", (770, 770), _noise(770 * 770, 1))
    large = Image.new("L", (side, side))
    for top in range(0, side, 770):
        for left in range(0, side, 770):
            large.paste(noise, (left, top))
    large.save(file, "JPEG", quality=20, progressive=True)
    return file.getvalue()


def _scan(first: int, last: int, low: int, data: bytes) -> bytes:
    return b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, first, last, low) + data


# ---- TIFF


def tiff_tiles(
    across: int,
    down: int,
    *,
    side: int = 16,
    bands: int = 1,
    bits: int = 8,
    kind: int = 1,
    codec: int = 5,
    content: bytes = b"",
    photometric: int = 1,
    pixels: tuple[int, int] = (0, 0),
    strips: bool = False,
) -> bytes:
    """A TIFF each of whose tiles, or strips of so many rows, is the same bytes."""
    raw = bytes(side * side * bands * bits // 8)
    packed = content or {1: raw, 5: _lzw(raw), 8: zlib.compress(raw, 9), 50000: b""}[codec]
    width, height = pixels if any(pixels) else (across * side, down * side)
    count, extra = across * down, bands - (3 if photometric == 2 else 1)
    lists = {
        258: (3, [bits] * bands),
        338: (3, [0] * extra),
        339: (3, [kind] * bands),
        273 if strips else 324: (4, [8] * count),
        279 if strips else 325: (4, [len(packed)] * count),
    }
    single = {256: width, 257: height, 259: codec, 262: photometric, 277: bands, 284: 1}
    single |= {278: side} if strips else {322: side, 323: side}
    made = bytearray(b"II*\0" + bytes(4) + packed)
    entries = [(tag, 4, 1, struct.pack("<I", value)) for tag, value in single.items()]
    for tag, (form, values) in lists.items():
        if not values:
            continue
        field = struct.pack(f"<{len(values)}{'H' if form == 3 else 'I'}", *values)
        if len(field) > 4:
            made += bytes(len(made) % 2)
            place = struct.pack("<I", len(made))
            made += field
            field = place
        entries.append((tag, form, len(values), field.ljust(4, b"\0")))
    made += bytes(len(made) % 2)
    made[4:8] = struct.pack("<I", len(made))
    made += struct.pack("<H", len(entries))
    for tag, form, number, field in sorted(entries):
        made += struct.pack("<HHI", tag, form, number) + field
    return bytes(made + bytes(4))


def _lzw(content: bytes) -> bytes:
    """As few codes as repeats of one byte take."""
    width, following, at, length, out = 9, 258, 0, 0, [(256, 9)]
    while at < len(content):
        length = min(length + 1, len(content) - at)
        code = content[0] if length == 1 else 256 + length
        if code >= following:
            code, length = following - 1, following - 257
        out.append((code, width))
        at += length
        following += 1
        if following > 4090:
            out.append((256, width))
            following, width, length = 258, 9, 0
            continue
        width = 9 + (following > 511) + (following > 1023) + (following > 2047)
    out.append((257, width))
    bits = "".join(f"{code:0{wide}b}" for code, wide in out)
    return int(bits.ljust(-len(bits) // 8 * -8, "0"), 2).to_bytes(-(-len(bits) // 8))


def _tile_jpeg(side: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((side, side), 90).save(file, "JPEG", **options)
    return file.getvalue()


def directories(count: int) -> bytes:
    """A TIFF of so many directories without a tag, and no page."""
    made = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number in range(count):
        made += struct.pack("<HI", 0, len(made) + 6 if number < count - 1 else 0)
    return bytes(made)


# ---- HEIC and AVIF


def grid(codec: str, columns: int, rows: int, *, side: int = 256, distinct: int = 1) -> bytes:
    """A grid whose cells are `distinct` images of noise, again and again."""
    stills = [_still(codec, side, seed) for seed in range(distinct)]
    return _grid_of(codec, stills, columns, rows, side)


def _still(codec: str, side: int, seed: int) -> bytes:
    noise = Image.frombytes("L", (side, side), _noise(side * side, seed)).convert("RGB")
    file = io.BytesIO()
    if codec == "avif":
        noise.save(file, "AVIF", quality=90, speed=8)
    else:
        pillow_heif.from_pillow(noise).save(file, quality=80, enc_params={"preset": "ultrafast"})
    return file.getvalue()


def _noise(count: int, seed: int) -> bytes:
    """Bytes without a pattern, the same each time."""
    state, made = seed * 7919 + 1, bytearray()
    while len(made) < count:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        made += (state >> 16).to_bytes(6)
    return bytes(made[:count])


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + (size or len(data))]
        at += size or len(data)


def _grid_of(codec: str, stills: list[bytes], columns: int, rows: int, side: int) -> bytes:
    files = [dict(_boxes(still)) for still in stills]
    meta = dict(_boxes(files[0][b"meta"][4:]))
    wanted = (b"av1C", b"hvcC", b"pixi", b"colr")
    properties = [
        (kind, body) for kind, body in _boxes(dict(_boxes(meta[b"iprp"]))[b"ipco"]) if kind in wanted
    ]
    coded = [file[b"mdat"] for file in files]
    cells, derived = range(1, len(coded) + 1), len(coded) + 1
    kind = b"av01" if codec == "avif" else b"hvc1"
    entries = [box(b"infe", b"\2\0\0\0" + struct.pack(">HH", n, 0) + kind + b"\0") for n in cells]
    entries += [box(b"infe", b"\2\0\0\0" + struct.pack(">HH", derived, 0) + b"grid\0")]
    width, height = columns * side, rows * side
    sizes = [box(b"ispe", bytes(4) + struct.pack(">II", *size)) for size in ((side, side), (width, height))]
    ipco = b"".join([*sizes, *(box(*each) for each in properties)])
    shared = bytes([0x80 | n if each[0] in wanted[:2] else n for n, each in enumerate(properties, 3)])
    ipma = bytes(4) + struct.pack(">I", derived)
    ipma += b"".join(struct.pack(">HBB", n, 1 + len(shared), 1) + shared for n in cells)
    ipma += struct.pack(">HBB", derived, 1, 2)
    told = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    references = struct.pack(">HH", derived, columns * rows)
    references += b"".join(struct.pack(">H", 1 + n % len(coded)) for n in range(columns * rows))
    lengths = [*map(len, coded), len(told)]

    def described(start: int) -> bytes:
        iloc, at = b"\0\0\0\0\x44\0" + struct.pack(">H", derived), start
        for number, length in enumerate(lengths, 1):
            iloc += struct.pack(">HHHII", number, 0, 1, at, length)
            at += length
        inside = [
            box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
            box(b"pitm", bytes(4) + struct.pack(">H", derived)),
            box(b"iloc", iloc),
            box(b"iinf", bytes(4) + struct.pack(">H", derived) + b"".join(entries)),
            box(b"iref", bytes(4) + box(b"dimg", references)),
            box(b"iprp", box(b"ipco", ipco) + box(b"ipma", ipma)),
        ]
        brand = b"avif\0\0\0\0avifmif1miaf" if codec == "avif" else b"heic\0\0\0\0heicmif1"
        return box(b"ftyp", brand) + box(b"meta", bytes(4) + b"".join(inside))

    before = described(described(0).__len__() + 8)
    return before + box(b"mdat", b"".join(coded) + told)


# ---- BMP and GIF


def short_runs(pixels: int, bits: int = 8) -> bytes:
    """A BMP whose runs are of one pixel."""
    side = isqrt(pixels)
    body = (b"\1\5" * side + b"\0\0") * side + b"\0\1"
    palette, offset = bytes(4 << bits), 54 + (4 << bits)
    header = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
    way = {8: 1, 4: 2}[bits]
    header += struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, way, len(body), 2835, 2835, 1 << bits, 0)
    return header + palette + body


def jumps(count: int) -> bytes:
    """A BMP of so many ends of lines and jumps that lead nowhere."""
    body = b"\0\2\0\0" * count + b"\0\1"
    header = struct.pack("<2sIHHI", b"BM", 1078 + len(body), 0, 0, 1078)
    header += struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(body), 2835, 2835, 256, 0)
    return header + bytes(1024) + body


COSTLY: Mapping[str, Callable[[], bytes]] = {
    "JPEG: 85 scans, 100 MP": partial(scans, 10_000, 85),
    "JPEG: 400 scans, 100 MP": partial(scans, 10_000, 400),
    "JPEG: the same band 1000 times, 25 MP": partial(scans, 5_000, 1000, repeated=True),
    "JPEG: arithmetic codes, 85 scans, 100 MP": partial(scans, 10_000, 85, arithmetic=True),
    "JPEG: 60 scans, 100 MP": partial(scans, 10_000, 60),
    "JPEG: noise, 43 MP": partial(_noisy_jpeg, 6_545),
    "JPEG: 100,000 scans, 64 pixels": partial(scans, 8, 100_000, repeated=True),
    "PNG: 600 profiles": lambda: _small_png(inflating(b"iCCP", 4 << 20) * 600),
    "PNG: 500,000 unknown chunks": lambda: _small_png(_chunk(b"nonE", b"") * 500_000),
    "PNG: 500,000 palettes": lambda: _small_png(_chunk(b"PLTE", b"abc") * 500_000),
    "PNG: 100,000 frames": partial(_apng, 100_000),
    "PNG: Paeth's filter, 16 bits, 100 MP": partial(_png, 10_000),
    "PNG: PQ, interlaced, 100 MP": partial(WORST["pq-interlaced.png"], 100 * _MP),
    "WebP: 57,000 frames": partial(webp_frames, 57_000),
    "WebP: 150,000 frames": partial(webp_frames, 150_000),
    "WebP: 1,000,000 unknown chunks": partial(_webp_chunks, 1_000_000),
    "WebP: lossless, 100 MP": partial(WORST["lossless.webp"], 100 * _MP),
    "GIF: 500,000 frames": partial(gif, 64, 500_000),
    "GIF: 600,000 frames, 100 MP": partial(gif, 100 * _MP, 600_000),
    "TIFF: tiles of 16 pixels, 17 bands": partial(tiff_tiles, 625, 625, bands=17),
    "TIFF: 99,000 tiles of 16 pixels, 17 bands": partial(tiff_tiles, 330, 300, bands=17),
    "TIFF: 24,990 tiles of 16 pixels, 17 bands": partial(tiff_tiles, 1470, 17, bands=17),
    "TIFF: 23,800 tiles of 64 pixels": partial(tiff_tiles, 1400, 17, side=64, codec=8),
    "TIFF: one strip of JPEG, 883 scans, 36 MP": lambda: tiff_tiles(
        1, 1, side=6000, codec=7, content=scans(6000, 883)
    ),
    "TIFF: one tile of noise, 17 bands, 24 MP": lambda: tiff_tiles(
        19, 19, side=256, bands=17, codec=8, content=zlib.compress(_noise(256 * 256 * 17, 1))
    ),
    "TIFF: floats, 16 MP": partial(WORST["float.tif"], 16 * _MP),
    "TIFF: floats, Zstandard, 16 MP": partial(WORST["float-zstd.tif"], 16 * _MP),
    "TIFF: floats, 58 MP": lambda: WORST["float.tif"](58 * _MP).ljust(9_900_000, b"\0"),
    "TIFF: 12 bands, 33 MP": partial(tiff_tiles, 22, 22, side=256, bands=12, codec=8),
    "TIFF: planes of 16 bits, Zstandard, 36 MP": partial(WORST["planes-16.tif"], 36 * _MP),
    "TIFF: 99,000 tiles of JPEG": lambda: tiff_tiles(330, 300, codec=7, content=_tile_jpeg(16)),
    "TIFF: 99,000 tiles of progressive JPEG": lambda: tiff_tiles(
        330, 300, codec=7, content=_tile_jpeg(16, progressive=True)
    ),
    "TIFF: tiles of 256 pixels, 17 bands, LZW": partial(tiff_tiles, 39, 39, side=256, bands=17),
    "TIFF: tiles of 256 pixels, 17 bands, Deflate": partial(tiff_tiles, 39, 39, side=256, bands=17, codec=8),
    "TIFF: tiles of 256 pixels, 1000 bands, Deflate": partial(
        tiff_tiles, 10, 10, side=256, bands=1000, codec=8
    ),
    "TIFF: 1,000,000 directories": partial(directories, 1_000_000),
    "TIFF: 1,200,000 strips of one row": lambda: tiff_tiles(
        1, 90_000, side=1, codec=1, pixels=(1000, 90_000), content=bytes(1000), strips=True
    ),
    "TIFF: tiles of 16 pixels, wide": partial(tiff_tiles, 5625, 17),
    "TIFF: floats of 16 pixels' tiles": partial(tiff_tiles, 300, 330, bits=32, kind=3, codec=8),
    "TIFF: RGB floats in tiles, 99 MP": partial(
        tiff_tiles, 39, 39, side=256, bits=32, bands=3, kind=3, codec=8, photometric=2
    ),
    "TIFF: half floats, 99 MP": partial(tiff_tiles, 39, 39, side=256, bits=16, kind=3, codec=8),
    "TIFF: doubles, 99 MP": partial(tiff_tiles, 39, 39, side=256, bits=64, kind=3, codec=8),
    "TIFF: signed integers of 32 bits, 99 MP": partial(
        tiff_tiles, 39, 39, side=256, bits=32, kind=2, codec=8
    ),
    "TIFF: floats, Zstandard, 100 MP": partial(WORST["float-zstd.tif"], 100 * _MP),
    "TIFF: floats, 100 MP": partial(WORST["float.tif"], 100 * _MP),
    "TIFF: planes of 16 bits, Zstandard, 100 MP": partial(WORST["planes-16.tif"], 100 * _MP),
    "HEIC: a grid of one cell, 961 times": partial(grid, "heic", 31, 31),
    "AVIF: a grid of one cell, 256 times": partial(grid, "avif", 16, 16),
    "AVIF: a grid of one cell, 64 times": partial(grid, "avif", 8, 8, side=1024),
    "HEIC: a grid of 16 cells of noise, 17 MP": partial(grid, "heic", 4, 4, side=1024, distinct=8),
    "AVIF: a grid of 16 cells of noise, 17 MP": partial(grid, "avif", 4, 4, side=1024, distinct=8),
    "AVIF: PQ with opacity, 16 MP": partial(WORST["pq-alpha.avif"], 16 * _MP),
    "HEIC: PQ with opacity, 16 MP": partial(WORST["pq-alpha.heic"], 16 * _MP),
    "BMP: runs of four bits, 81 MP": partial(runs, 81 * _MP, 4),
    "BMP: runs of one pixel, 5 MP": partial(short_runs, 4_950_000),
    "BMP: runs of one pixel, four bits, 5 MP": partial(short_runs, 4_950_000, 4),
    "BMP: 2,000,000 jumps": partial(jumps, 2_000_000),
}
"""What each of them is; whoever finds one that costs more puts it here."""
