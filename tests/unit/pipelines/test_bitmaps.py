"""BMP and icons: run lengths as their description has them, and opacity only where there is some."""

import io
import re
from collections.abc import Iterator
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.decoder.bmp import RunLengths
from tests.support import bitmaps
from tests.support.bitmaps import PALETTE
from tests.support.decoder_child import DecoderProcess, spec

RED, BLUE, WHITE = 1, 3, 4
END = b"\0\1"


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def shown(child: DecoderProcess, source: bytes) -> Image.Image:
    outcome = child.run(source, (spec(1000),))
    assert outcome.status == "done", outcome.answer
    return Image.open(io.BytesIO(outcome.variants[0])).convert("RGB")


def at(picture: Image.Image, x: int, y: int) -> tuple[int, ...]:
    """The colour there."""
    found = picture.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def assert_close(actual: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert max(abs(a - b) for a, b in zip(actual, expected, strict=True)) < 8, (actual, expected)


def unpacked(data: bytes, width: int, height: int, *, nibbles: bool = False) -> tuple[list[bytes], bool]:
    """The rows as they lie in the file, and whether they are whole."""
    rows = RunLengths(width, height, nibbles=nibbles)
    whole = rows.unpack(data)
    return [bytes(rows.pixels[at : at + width]) for at in range(0, width * height, width)], whole


def stepwise(data: bytes, width: int, height: int, *, nibbles: bool) -> tuple[list[bytes], bool]:
    """The same, one pixel after another."""
    rows = [bytearray(width) for _ in range(height)]
    x = y = at = 0
    end = len(data) & ~1
    while at < end and y < height:
        count, value = data[at : at + 2]
        at += 2
        if count == 0 and value == 0:
            x, y = 0, y + 1
            continue
        if count == 0 and value == 1:
            return [bytes(row) for row in rows], True
        if count == 0 and value == 2:
            right, up = data[at : at + 2] if at + 2 <= end else (0, 0)
            x, y, at = min(width, x + right), y + up, at + 2
            continue
        pixels = [value >> 4, value & 15] * 128 if nibbles else [value] * 256
        if count == 0:
            size = (value + 1) // 2 if nibbles else value
            stored, count = data[at : at + size], value
            pixels = [half for byte in stored for half in (byte >> 4, byte & 15)] if nibbles else [*stored]
            at += size + size % 2
        for pixel in pixels[:count]:
            if x < width:
                rows[y][x] = pixel
                x += 1
    return [bytes(row) for row in rows], y >= height or (y == height - 1 and x >= width)


class TestRunsOfBitmaps:
    @pytest.mark.parametrize(
        ("data", "rows"),
        [
            (b"\3\1\0\0\2\2\0\0" + END, [b"\1\1\1", b"\2\2\0"]),
            (b"\0\3\1\2\3\0\0\0\3\4" + END, [b"\1\2\3", b"\4\4\4"]),
            (b"\0\2\1\1\1\3" + END, [b"\0\0\0", b"\0\3\0"]),
            (b"\7\1\1\2\0\0\1\3" + END, [b"\1\1\1", b"\3\0\0"]),
            (b"\0\0\3\1" + END, [b"\0\0\0", b"\1\1\1"]),
            (END, [b"\0\0\0", b"\0\0\0"]),
        ],
        ids=["lines", "as they are", "jump", "too long", "empty line", "end"],
    )
    def test_eight_bit_runs_are_unpacked(self, data: bytes, rows: list[bytes]) -> None:
        assert unpacked(data, 3, 2) == (rows, True)

    def test_four_bit_runs_take_turns_and_odd_ones_are_filled_up(self) -> None:
        assert unpacked(b"\5\x12\0\0" + END, 6, 1, nibbles=True) == ([b"\1\2\1\2\1\0"], True)
        assert unpacked(b"\0\5\x12\x34\x50\0\1\x99" + END, 6, 1, nibbles=True) == ([b"\1\2\3\4\5\x09"], True)

    @pytest.mark.parametrize(
        ("data", "whole"),
        [(b"\3\1\0\0\3\1", True), (b"\3\1\0\0\3\1\0\0", True), (b"\3\1\0\0\2\1", False), (b"", False)],
    )
    def test_runs_without_an_end_are_whole_if_all_pixels_are_there(self, data: bytes, whole: bool) -> None:
        assert unpacked(data, 3, 2)[1] is whole

    @settings(max_examples=150, deadline=None)
    @given(st.data(), st.integers(1, 40), st.integers(1, 12), st.booleans())
    def test_they_are_unpacked_as_pixel_by_pixel(
        self, drawn: st.DataObject, width: int, height: int, nibbles: bool
    ) -> None:
        run = st.tuples(st.integers(1, 60), st.integers(0, 255)).map(bytes)
        line = st.just(bytes((width, 3)) + b"\0\0")
        escape = st.tuples(st.just(0), st.sampled_from((0, 0, 2, 3, 4, 9))).map(bytes)
        parts = st.one_of(run, run, line, line.map(lambda one: one * 20), escape, st.binary(max_size=6))
        data = b"".join(drawn.draw(st.lists(parts, max_size=40)))

        assert unpacked(data, width, height, nibbles=nibbles) == stepwise(
            data, width, height, nibbles=nibbles
        )

    @pytest.mark.parametrize("bits", [4, 8])
    @pytest.mark.parametrize("height", [2, -2])
    def test_a_picture_has_its_colours_from_the_bottom_or_from_the_top(
        self, child: DecoderProcess, bits: int, height: int
    ) -> None:
        one, other = (RED, BLUE) if bits == 8 else (RED * 17, BLUE * 17)
        line = bytes((32, one, 0, 0)) * 16 + bytes((32, other, 0, 0)) * 16 + END

        picture = shown(child, bitmaps.runs(line, 32, 16 * height, bits=bits))

        first, last = (BLUE, RED) if height > 0 else (RED, BLUE)
        assert_close(at(picture, 16, 4), PALETTE[first])
        assert_close(at(picture, 16, 27), PALETTE[last])

    def test_one_that_ends_early_is_damaged_unless_that_is_accepted(self, child: DecoderProcess) -> None:
        cut = bitmaps.runs(b"\x20\1\0\0" * 10, 32, 32)

        assert child.run(cut).code == "corrupt_image"
        with DecoderProcess("pillow", damaged="accept") as lenient:
            assert lenient.run(cut).status == "done"

    def test_81_megapixels_of_four_bits_take_less_than_a_second(self, child: DecoderProcess) -> None:
        line = b"\xff\x12" * 35 + b"\x4b\x12" + b"\0\0"
        began = child.cpu_ms()

        outcome = child.run(bitmaps.runs(line * 9000 + END, 9000, 9000, bits=4), (spec(150),))

        assert outcome.status == "done"
        assert child.cpu_ms() - began < 1000

    @pytest.mark.parametrize(
        "piece", [b"\0\0", b"\0\2\0\0", b"\1\1\0\0", b"\0\3\x12\x30", b"\0\3\x12\x30\5\1"]
    )
    def test_many_tiny_runs_are_over_soon(self, piece: bytes) -> None:
        rows, began = RunLengths(900, 90_000, nibbles=True), process_time()

        rows.unpack(piece * (500_000 // len(piece)))

        assert process_time() - began < 1


class TestOpacity:
    @pytest.mark.parametrize("header", [56, 108, 124])
    @pytest.mark.parametrize(
        "masks",
        [
            (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
            (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
            (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        ],
    )
    def test_a_bitmap_whose_opacity_is_0_everywhere_is_opaque(
        self, child: DecoderProcess, header: int, masks: tuple[int, ...]
    ) -> None:
        red = (masks[0] & 0xC8C8C8C8) | (masks[1] & 0x28282828)

        picture = shown(child, bitmaps.masked(red.to_bytes(4, "little") * 1024, 32, 32, masks, header=header))

        assert_close(at(picture, 16, 16), (200, 40, 0))

    @pytest.mark.parametrize(
        ("bits", "masks", "red"),
        [
            (16, (0xF00, 0xF0, 0xF, 0xF000), 0xFC22),
            (16, (0x7C00, 0x3E0, 0x1F, 0x8000), 0xE0A5),
            (16, (0xE0, 0x18, 0x7, 0), 0xC0),
            (32, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000), 0xF24280A1),
            (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0xFFC82828),
            (32, (0xFF00, 0xFF0000, 0xFF000000, 0xFF), 0x2828C8FF),
            (32, (0xFFFFF000, 0xFC0, 0x3F, 0), 0xC800028A),
            (32, (0xFFFFFF00, 0xF0, 0xF, 0), 0xC8000022),
        ],
    )
    def test_any_masks_are_understood(
        self, child: DecoderProcess, bits: int, masks: tuple[int, ...], red: int
    ) -> None:
        pixels = red.to_bytes(bits // 8, "little") * 1024

        picture = shown(child, bitmaps.masked(pixels, 32, 32, masks, header=124, bits=bits))

        found = at(picture, 16, 16)
        assert found[0] - max(found[1:]) > 120
        assert max(found[1:]) < 60

    def test_a_fourth_mask_may_follow_the_smallest_header(self, child: DecoderProcess) -> None:
        masks, pixels = (0xF00, 0xF0, 0xF, 0xF000), (bytes(32) + b"\x22\xfc" * 16) * 32
        source = bytearray(bitmaps.masked(pixels, 32, 32, masks, header=56, bits=16))
        source[14], source[30] = 40, 6  # the size of the header, and BI_ALPHABITFIELDS

        picture = shown(child, bytes(source))

        assert_close(at(picture, 4, 16), PALETTE[WHITE])
        assert_close(at(picture, 28, 16), (204, 34, 34))

    def test_masks_of_pixels_that_are_not_there_are_damaged(self, child: DecoderProcess) -> None:
        cut = bitmaps.masked(bytes(500), 32, 32, (0xF00, 0xF0, 0xF, 0xF000), header=56, bits=16)

        assert child.run(cut).code == "corrupt_image"

    def test_a_bitmap_with_some_opacity_is_clear_elsewhere(self, child: DecoderProcess) -> None:
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        pixels = (bytes(64) + b"\x28\x28\xc8\xff" * 16) * 32

        picture = shown(child, bitmaps.masked(pixels, 32, 32, masks, header=108))

        assert_close(at(picture, 4, 16), PALETTE[WHITE])
        assert_close(at(picture, 28, 16), (200, 40, 40))

    @pytest.mark.parametrize("told", [32, 0, 24])
    def test_an_icon_without_opacity_of_its_own_is_shown_by_its_mask(
        self, child: DecoderProcess, told: int
    ) -> None:
        mask = (b"\xff\xff\0\0") * 32  # the left half is clear

        picture = shown(child, bitmaps.icon(b"\x28\x28\xc8\0" * 1024, mask, 32, 32, told=told))

        assert_close(at(picture, 4, 16), PALETTE[WHITE])
        assert_close(at(picture, 28, 16), (200, 40, 40))

    def test_an_icon_with_opacity_needs_no_mask(self, child: DecoderProcess) -> None:
        pixels = (b"\x28\x28\xc8\xff" * 16 + bytes(64)) * 32

        for mask in (b"\xff\xff\xff\xff" * 32, b""):
            picture = shown(child, bitmaps.icon(pixels, mask, 32, 32))
            assert_close(at(picture, 4, 16), (200, 40, 40))
            assert_close(at(picture, 28, 16), PALETTE[WHITE])

    def test_an_icon_with_neither_is_opaque(self, child: DecoderProcess) -> None:
        picture = shown(child, bitmaps.icon(b"\x28\x28\xc8\0" * 1024, b"", 32, 32))

        assert_close(at(picture, 16, 16), (200, 40, 40))

    @pytest.mark.parametrize("size", [0, 40, 1500, 3071, 3240])
    def test_an_icon_whose_directory_tells_too_small_a_size_is_shown(
        self, child: DecoderProcess, size: int
    ) -> None:
        mask = (b"\xff\xff\0\0") * 32  # the left half is clear
        source = bitmaps.icon(b"\x28\x28\xc8" * 1024, mask, 32, 24, size=size)

        picture = shown(child, source)

        assert_close(at(picture, 4, 16), PALETTE[WHITE])
        assert_close(at(picture, 28, 16), (200, 40, 40))
        assert child.run(source[:-1]).code == "corrupt_image"

    @pytest.mark.parametrize("size", [0, 8, 60])
    def test_a_png_in_an_icon_may_be_larger_than_its_directory_tells(
        self, child: DecoderProcess, size: int
    ) -> None:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (200, 40, 40)).save(file, "PNG")

        picture = shown(child, bitmaps.icon_of(file.getvalue(), 32, size=size))

        assert_close(at(picture, 16, 16), (200, 40, 40))

    @pytest.mark.parametrize(
        "whole",
        [
            bitmaps.icon(b"\x28\x28\xc8" * 1024, bytes(128), 32, 24),
            bitmaps.masked(bytes(2048), 32, 32, (0xF00, 0xF0, 0xF, 0xF000), header=56, bits=16),
        ],
        ids=["icon", "BMP"],
    )
    def test_what_is_said_of_a_file_that_ends_in_its_header_names_no_code(
        self, child: DecoderProcess, whole: bytes
    ) -> None:
        for length in range(23, 62):
            outcome = child.run(whole[:length])

            assert outcome.code == "corrupt_image"
            assert not re.search("_|index|object|buffer", outcome.answer["message"])

    def test_the_mask_of_an_icon_ends_it_or_follows_pixels_that_might_have_had_opacity(
        self, child: DecoderProcess
    ) -> None:
        mask, padding = (b"\xff\xff\0\0") * 32, b"\x55" * 128  # the left half is clear

        for icon in (
            bitmaps.icon(b"\x28\x28\xc8" * 1024, padding + mask, 32, 24),
            bitmaps.icon(b"\x28\x28\xc8\0" * 1024, mask + padding, 32, 32),
        ):
            picture = shown(child, icon)
            assert_close(at(picture, 4, 16), PALETTE[WHITE])
            assert_close(at(picture, 28, 16), (200, 40, 40))

    def test_a_damaged_icon_without_its_mask_is_opaque_where_it_is_accepted(self) -> None:
        with DecoderProcess("pillow", ["ico"], damaged="accept") as child:
            picture = shown(child, bitmaps.icon(b"\x28\x28\xc8" * 1024, b"", 32, 24))

        assert_close(at(picture, 16, 16), (200, 40, 40))

    def test_pixels_behind_three_masks_are_no_fourth_one(self, child: DecoderProcess) -> None:
        pixels = b"\x0f\0\0\0" * 16 + b"\0\x0f" * 992  # some of the lowest line is blue, all else red

        picture = shown(child, bitmaps.masked(pixels, 32, 32, (0xF00, 0xF0, 0xF, 0), header=40, bits=16))

        assert_close(at(picture, 16, 8), (255, 0, 0))
