"""What a decoder may have written as a variant: one picture, and nothing beside or behind it."""

import time
from hashlib import sha256

import pytest
import pyvips

from pipelines.decoder.jpeg_options import jpeg_options
from pipelines.errors import DecoderCrashed
from pipelines.placeholders import Kind
from pipelines.recipe import Variant
from pipelines.sandbox.answers import Done, Probed, Written
from pipelines.sandbox.output_check import _size_of, check_output


def _made(kind: str, bands: int = 3, **options: object) -> bytes:
    image = (pyvips.Image.black(40, 30, bands=bands) + 90).cast("uchar").copy(interpretation="srgb")
    saves = {"jpeg": image.jpegsave_buffer, "webp": image.webpsave_buffer, "avif": image.heifsave_buffer}
    codec = {"compression": "av1", "effort": 0} if kind == "avif" else {}
    return bytes(saves[kind](keep="none", **codec, **options))


def _with_chunk(content: bytes, kind: bytes) -> bytes:
    body = content[12:] + kind + (4).to_bytes(4, "little") + b"evil"
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


@pytest.mark.parametrize("kind", ["webp", "avif"])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("lossless", [False, True])
def test_what_libvips_writes_is_accepted(kind: str, bands: int, lossless: bool) -> None:
    assert _size_of(_made(kind, bands, lossless=lossless), kind) == (40, 30)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_jpeg_of_one_scan_or_many_is_accepted(bands: int, interlace: bool) -> None:
    assert _size_of(_made("jpeg", bands, interlace=interlace), "jpeg") == (40, 30)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("quality", [1, 69, 70, 100])
def test_a_jpeg_of_any_effort_is_accepted(bands: int, quality: int, subsampling: str) -> None:
    for effort in ("fast", "small"):
        options = jpeg_options({"quality": quality, "subsampling": subsampling, "effort": effort})

        assert _size_of(_made("jpeg", bands, **options), "jpeg") == (40, 30)


@pytest.mark.parametrize("length", [0, 1])
def test_a_jpeg_whose_scan_is_shorter_than_its_own_length_is_refused(length: int) -> None:
    content = bytearray(_made("jpeg"))
    at = content.index(b"\xff\xda") + 2
    content[at : at + 2] = length.to_bytes(2)

    assert _size_of(bytes(content), "jpeg") is None


_SCAN = b"\xff\xd8\xff\xda\x00\x02"
_BYTES = 2 * 1024 * 1024  # a variant that is checked between two turns of the event loop
_TEDIOUS = {
    "segments of nothing": ("jpeg", b"\xff\xd8" + b"\xff\xdd\x00\x02" * (_BYTES // 4)),
    "scans of nothing": ("jpeg", b"\xff\xd8" + b"\xff\xda\x00\x02" * (_BYTES // 4)),
    "fill bytes": ("jpeg", _SCAN + b"\xff" * _BYTES),
    "restarts": ("jpeg", _SCAN + b"\xff\xd0" * (_BYTES // 2)),
    "chunks of nothing": (
        "webp",
        b"RIFF" + (_BYTES + 4).to_bytes(4, "little") + b"WEBP" + b"VP8 \0\0\0\0" * (_BYTES // 8),
    ),
    "boxes of nothing": ("avif", b"\0\0\0\x0cftypavif" + b"\0\0\0\x08free" * (_BYTES // 8)),
}


@pytest.mark.parametrize("what", _TEDIOUS)
def test_what_was_made_to_be_tedious_is_refused_in_no_time(what: str) -> None:
    kind, content = _TEDIOUS[what]
    began = time.process_time()
    size = _size_of(content, kind)

    assert size is None
    assert time.process_time() - began < 0.1


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


_THUMBHASH, _BLURHASH = "XwgGDISEIGhTNHp1lnb3Vxl/aQ==", "LEHV6nWB2yk8pyo0adR*.7kCMdnj"


@pytest.mark.parametrize("kind", ["thumbhash", "blurhash", "none"])
@pytest.mark.parametrize("answered", [None, _THUMBHASH, _BLURHASH, "<script>"])
def test_only_a_placeholder_of_the_kind_that_was_asked_for_is_accepted(
    kind: Kind, answered: str | None
) -> None:
    content = _made("jpeg")
    size = {"width": 40, "height": 30}
    probed = Probed(status="probed", sha256="a" * 64, format="jpeg", estimate=0, **size)
    written = Written(name="thumb", start=0, bytes=len(content), **size)
    done = Done(status="done", color="#000000", placeholder=answered, variants=[written], ms={})
    checked = probed, done, [Variant("thumb", 150)], kind, lambda _places: [content], 2 * len(content)

    if answered == {"thumbhash": _THUMBHASH, "blurhash": _BLURHASH, "none": None}[kind]:
        assert check_output(*checked).placeholder.kind == kind
    else:
        with pytest.raises(DecoderCrashed, match="another placeholder"):
            check_output(*checked)


@pytest.mark.parametrize(("box", "width", "height"), [(800, 40, 30), (20, 20, 15)])
def test_variants_at_the_same_place_are_each_held_against_their_own_size(
    box: int, width: int, height: int
) -> None:
    content = _made("jpeg")
    probed = Probed(status="probed", sha256="a" * 64, format="jpeg", estimate=0, width=40, height=30)
    variants = [Variant("large", 1920), Variant("other", box)]
    at = {"start": 0, "bytes": len(content)}
    written = [
        Written(name="large", width=40, height=30, **at),
        Written(name="other", width=width, height=height, **at),
    ]
    done = Done(status="done", color="#000000", variants=written, ms={})
    kind: Kind = "none"
    checked = probed, done, variants, kind, lambda places: [content for _ in places], 2 * len(content)

    if (width, height) == (40, 30):
        digest = sha256(content).hexdigest()
        assert [(one.content, one.sha256) for one in check_output(*checked).variants] == 2 * [
            (content, digest)
        ]
    else:
        with pytest.raises(DecoderCrashed, match="of the size it said"):
            check_output(*checked)
