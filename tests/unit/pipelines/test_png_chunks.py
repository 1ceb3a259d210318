"""A PNG keeps the chunks that its picture needs, each once: others only cost time and memory."""

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from pipelines.decoder import png
from tests.support.decoder_child import DecoderProcess
from tests.support.light import chunk


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess() as running:
        yield running


def plain(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 40, 40)).convert(mode).save(file, "PNG")
    return file.getvalue()


def chunks(*kinds: bytes) -> bytes:
    return b"".join(chunk(kind, b"\1\2\3\4") for kind in kinds)


@pytest.mark.parametrize(
    "kind", [b"cICP", b"eXIf", b"sBIT", b"gAMA", b"iCCP", b"sPLT", b"ruBB", b"fdAT", b"PLTE"]
)
def test_many_chunks_of_a_png_cost_next_to_nothing(child: DecoderProcess, kind: bytes) -> None:
    content = plain()
    began = child.cpu_ms()

    assert child.run(content[:33] + chunks(kind) * 60_000 + content[33:]).status == "done"

    assert child.cpu_ms() - began < 600  # those that libpng knows take it seconds


@pytest.mark.parametrize("superfluous", [b"tEXt", b"sPLT", b"ruBB", b"acTL"])
def test_what_a_picture_needs_stays_in_its_place_and_the_first_of_each_kind_counts(
    superfluous: bytes,
) -> None:
    head, tail = plain("P")[:33], chunks(b"IDAT", b"IDAT", b"IEND") + b"behind"
    known = chunks(b"PLTE", b"tRNS", b"gAMA", b"eXIf", b"UNKN", b"UNKN", b"PLTE")
    twice = chunks(b"gAMA", superfluous, b"eXIf")

    crowded = bytearray(head + chunks(superfluous) + known + twice + tail)

    assert png.strip_chunks(crowded, 0) == head + known + tail


def test_a_palette_stays_only_where_pixels_are_numbers_of_its_colours() -> None:
    palette = chunks(b"PLTE")

    for mode, kept in (("RGB", b""), ("RGBA", b""), ("P", palette)):
        whole = plain(mode)
        crowded = bytearray(whole[:33] + palette + whole[33:])
        assert png.strip_chunks(crowded, 1000) == whole[:33] + kept + whole[33:]


def test_a_png_without_anything_superfluous_is_not_copied() -> None:
    content = bytearray(plain()[:33] + chunks(*png.ONCE) + plain()[33:])

    assert png.strip_chunks(content, 1000) is content
