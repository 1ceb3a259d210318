"""What a decoder may have written as a WebP or AVIF: one picture, and nothing beside or behind it."""

import pytest
import pyvips

from pipelines.sandbox.drawn import _size_of


def _made(kind: str, bands: int = 3, **options: object) -> bytes:
    image = (pyvips.Image.black(40, 30, bands=bands) + 90).cast("uchar").copy(interpretation="srgb")
    save = image.webpsave_buffer if kind == "webp" else image.heifsave_buffer
    codec = {} if kind == "webp" else {"compression": "av1", "effort": 0}
    return bytes(save(keep="none", **codec, **options))


def _with_chunk(content: bytes, kind: bytes) -> bytes:
    body = content[12:] + kind + (4).to_bytes(4, "little") + b"evil"
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


@pytest.mark.parametrize("kind", ["webp", "avif"])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("lossless", [False, True])
def test_what_libvips_writes_is_accepted(kind: str, bands: int, lossless: bool) -> None:
    assert _size_of(_made(kind, bands, lossless=lossless), kind) == (40, 30)


@pytest.mark.parametrize("chunk", [b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"VP8 ", b"what"])
def test_a_webp_with_anything_else_in_it_is_refused(chunk: bytes) -> None:
    assert _size_of(_with_chunk(_made("webp"), chunk), "webp") is None


@pytest.mark.parametrize("kind", ["webp", "avif"])
def test_bytes_too_many_or_too_few_are_refused(kind: str) -> None:
    content = _made(kind)

    assert _size_of(content + b"<script>", kind) is None
    assert _size_of(content[:-3], kind) is None


@pytest.mark.parametrize("box", [b"uuid", b"meta", b"moov"])
def test_an_avif_with_another_box_is_refused(box: bytes) -> None:
    assert _size_of(_made("avif") + (12).to_bytes(4) + box + b"evil", "avif") is None


def test_an_avif_with_an_item_of_metadata_is_refused() -> None:
    assert _size_of(_made("avif").replace(b"av01", b"Exif"), "avif") is None
