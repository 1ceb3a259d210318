"""HEIC and AVIF of more parts than any picture has: refused before a decoder makes gigabytes of kilobytes."""

import io
import struct
from collections.abc import Iterator
from time import process_time

import pytest
from PIL import Image

from pipelines.decoder import box_counts
from tests.support import light
from tests.support.decoder_child import DEFAULT, DecoderProcess
from tests.support.iso_boxes import box, with_parts

PARTS = struct.pack(">HHIH", 9, 0, 0, 65_535)  # which take no bytes
NAMELESS = box(b"infe", struct.pack(">BxxxHH4s", 2, 99, 0, b"mime") + bytes(8))
BOMBS: dict[str, tuple[bytes, bytes]] = {
    "items": (b"iinf", struct.pack(">4xH", 60_000) + NAMELESS * 60_000),
    "properties": (b"iprp", box(b"ipco", box(b"free", b"") * 60_000)),
    "associations of items with properties": (
        b"iprp", box(b"ipma", struct.pack(">4xI", 4000) + (struct.pack(">HB", 9, 255) + bytes(255)) * 4000),
    ),
    "references between items": (b"iref", bytes(4) + box(b"cdsc", struct.pack(">HH", 2, 5000) + bytes(9999))),
    "places of items": (b"iloc", struct.pack(">4xBBH", 0, 0x40, 60_000) + bytes(8) * 60_000),
    "parts of items": (b"iloc", struct.pack(">4xBBH", 0, 0x40, 900) + PARTS * 900),
    "boxes": (b"free", box(b"free", b"") * 4000),
}  # fmt: skip


def avif() -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (64, 48), (200, 100, 50, 128)).save(file, "AVIF")
    return file.getvalue()


def bomb(what: str, content: bytes) -> bytes:
    kind, body = BOMBS[what]
    return content + body if what == "boxes" else with_parts(content, {kind: body})


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


@pytest.mark.parametrize("what", BOMBS)
def test_a_picture_of_more_parts_than_any_has_is_refused_with_their_name(what: str) -> None:
    content, since = bomb(what, avif()), process_time()

    assert what in box_counts.excess(content)
    assert process_time() - since < 0.1


@pytest.mark.parametrize("what", BOMBS)
def test_what_describes_the_tracks_of_a_sequence_is_counted_as_well(what: str) -> None:
    kind, body = BOMBS[what]
    track = body if what == "boxes" else box(b"meta", bytes(4) + box(kind, body))

    assert what in box_counts.excess(box(b"moov", box(b"trak", track)) + avif())


@pytest.mark.parametrize("what", BOMBS)
def test_neither_decoder_is_given_what_has_too_many_parts(child: DecoderProcess, what: str) -> None:
    for content in (avif(), light.heic([(0.5, 0.5, 0.5)], 8, 1, 13)):
        answer = child.run(bomb(what, content), DEFAULT)

        assert answer.code == "unsupported_format"
        assert "it has more than" in str(answer.answer)


def test_boxes_within_boxes_within_boxes_are_walked_only_as_deep_as_any_picture_has_them() -> None:
    content = b""
    for _ in range(3000):
        content = box(b"moov", content)

    assert box_counts.excess(content) == ""


def test_ordinary_pictures_have_few_parts() -> None:
    assert box_counts.excess(avif()) == ""
    assert box_counts.excess(light.heic([(0.5, 0.5, 0.5)] * 40, 8, 1, 13, tile_size=64)) == ""
