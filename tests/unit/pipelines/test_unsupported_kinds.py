"""Valid files of a kind that is not read are refused as that; only damaged ones are called damaged."""

import io
import struct
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from pipelines.decoder import kinds
from tests.support import bitmaps, bombs, light
from tests.support.decoder_child import DecoderProcess


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def saved(name: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, name, **options)
    return file.getvalue()


def jpeg(*, marker: int = 0xC0, bits: int = 8, height: int | None = None) -> bytes:
    """A JPEG whose frame header says that."""
    content = bytearray(saved("JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 1], content[frame + 4] = marker, bits
    if height is not None:
        content[frame + 5 : frame + 7] = struct.pack(">H", height)
    return bytes(content)


def with_height_behind() -> bytes:
    """A JPEG whose height follows its only scan."""
    return jpeg(height=0)[:-2] + b"\xff\xdc\0\4\1\0\xff\xd9"


def apples_png() -> bytes:
    """A PNG as Xcode makes it: another chunk first, and pixels without the header of zlib."""
    content = saved("PNG")
    kind = b"CgBI" + bytes((0x50, 0, 0x20, 2))
    return content[:8] + struct.pack(">I", 4) + kind + struct.pack(">I", zlib.crc32(kind)) + content[8:]


def webp(place: int, byte: int, **options: object) -> bytes:
    """A WebP with another byte in the header of its pixels."""
    content = bytearray(saved("WEBP", **options))
    content[place] = byte
    return bytes(content)


def heif(codec: bytes) -> bytes:
    """A HEIC whose picture says that it is coded so."""
    return bombs.heic().replace(b"hvc1", codec).replace(b"ftypheic", b"ftypmif1")


KINDS = {
    "12 bits a sample": jpeg(bits=12),
    "12 bits a sample, extended": jpeg(marker=0xC1, bits=12),
    "12 bits a sample, progressive": jpeg(marker=0xC2, bits=12),
    "lossless JPEG": jpeg(marker=0xC3),
    "lossless JPEG, 16 bits": jpeg(marker=0xC3, bits=16),
    "hierarchical JPEG": jpeg(marker=0xC5),
    "JPEG-LS": jpeg(marker=0xF7),
    "its height is told only behind the picture": with_height_behind(),
    "CgBI": apples_png(),
    "a later version of WebP": webp(20, saved("WEBP")[20] | 0x0E),
    "a later version of lossless WebP": webp(24, 0x20 | saved("WEBP", lossless=True)[24], lossless=True),
    "a JPEG inside": bitmaps.header_only(40, 0, 4),
    "a PNG inside": bitmaps.header_only(124, 24, 5),
    "the Huffman code of IBM": bitmaps.header_only(64, 1, 3),
    "run lengths of 24-bit pixels, by IBM": bitmaps.header_only(64, 24, 4),
    "CMYK": bitmaps.header_only(108, 32, 11),
    "2 bits a pixel": bitmaps.header_only(40, 2, 0),
    "64 bits a pixel": bitmaps.header_only(40, 64, 0),
    "VVC (H.266)": heif(b"vvc1"),
    "JPEG 2000": heif(b"j2k1"),
    "pixels that are not compressed": heif(b"unci"),
    "AVC (H.264)": heif(b"avc1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_valid_picture_of_a_kind_that_is_not_read_is_called_that(child: DecoderProcess, kind: str) -> None:
    outcome = child.run(KINDS[kind])

    assert outcome.code == "unsupported_format", outcome.answer
    assert kind.partition(",")[0] in outcome.answer["message"]
    assert not any(odd in outcome.answer["message"] for odd in ("damaged", "vips", "0x", "/"))


@pytest.mark.parametrize(
    "content",
    [
        saved("JPEG")[:300],
        jpeg(bits=3),
        jpeg(marker=0xC4),
        jpeg(marker=0xC3)[:170],
        jpeg(height=0),
        saved("PNG")[:60],
        saved("WEBP")[:100],
        bombs.heic()[:400],
        bombs.heic()[:-40],
        bitmaps.runs(b"\0\3", 16, 16),
    ],
    ids=range(10),
)
def test_a_damaged_picture_is_called_damaged(child: DecoderProcess, content: bytes) -> None:
    outcome = child.run(content)

    assert outcome.code == "corrupt_image", outcome.answer
    assert "damaged or incomplete" in outcome.answer["message"]


def test_a_heic_with_one_image_that_is_read_is_of_no_other_kind() -> None:
    content = light.heic([(0.5, 0.5, 0.5, 0.5)], 8, 1, 13)
    head, _, tail = content.partition(b"hvc1")
    assert b"hvc1" in tail

    assert kinds.unsupported("heic", content.replace(b"hvc1", b"j2k1")) == "coded as JPEG 2000"
    assert kinds.unsupported("heic", head + b"hvc1" + tail.replace(b"hvc1", b"j2k1")) == ""
