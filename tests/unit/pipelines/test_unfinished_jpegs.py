"""A JPEG that lacks only its end marker is accepted; one that lacks pixels is refused, wherever it ends."""

import base64
import io
import re
from collections.abc import Iterator
from random import Random
from time import process_time
from typing import Any

import pytest
from PIL import Image

from pipelines.decoder import headers, jpeg, kinds
from tests.support.decoder_child import DecoderProcess, spec

END = b"\xff\xd9"
SCAN = b"\xff\xda"
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "optimized": {"optimize": True},
    "restart markers": {"restart_marker_blocks": 5},
    "progressive": {"progressive": True},
    "progressive, restart markers": {"progressive": True, "restart_marker_rows": 1},
}
BEHIND = {
    "nothing": b"",
    "half of it": b"\xff",
    "zeros": bytes(4000),
    "fill bytes": b"\xff" * 40,
    "text": b"hello world" * 40,
    "markers": b"hello\xff\xe1\xff\xc2\xff\xd8\xff\xda world" * 20,
}
# Grey pictures of 24x16 pixels by cjpeg and jpegtran: Pillow does not write arithmetic codes.
ARITHMETIC = {
    "sequential": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcp"
        "LDAxNDQ0Hyc5PTgyPC4zNDL/yQALCAAQABgBAREA/8wABgAQEAX/2gAIAQEAAD8A0hbJjEOWiyOm/pe3QFdpnw4BsWPJD+YN"
        "l+KWO/NR/p0iQ/wdVvSk7LlLYP8AF+L3vwj/2Q=="
    ),
    "progressive": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAx"
        "NDQ0Hyc5PTgyPC4zNDL/ygALCAAQABgBAREA/8wABAAQ/9oACAEBAAAAAdFLgere7xD/zAAEEAX/2gAIAQEAAQUCOS2130h6kjWA"
        "+GCUqqz/zAAEEAX/2gAIAQEABj8C/WYc/8wABBAF/9oACAEBAAE/IZW5bDChx6P/2gAIAQEAAAAQ7v/MAAQQBf/aAAgBAQABPxBr"
        "OHFCC4clsy1N+//Z"
    ),
}


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess() as running:
        yield running


def photo(*, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG with enough in it that each of its parts matters."""
    # The same at each run: where a cut lies between two blocks, or scans, libjpeg may notice nothing.
    noise = Image.frombytes("L", (200, 150), Random(1).randbytes(200 * 150))
    file = io.BytesIO()
    Image.merge("RGB", (noise, noise.rotate(90), noise.rotate(180))).convert(mode).save(
        file, "JPEG", **options
    )
    return file.getvalue()


def scans(picture: bytes) -> list[int]:
    """Where its scans begin."""
    return [at for at in range(len(picture)) if picture.startswith(SCAN, at)]


def in_three_scans(picture: bytes) -> bytes:
    """Three components with the data of a grey picture, each in a scan of its own."""
    frame, scan = picture.index(b"\xff\xc0"), picture.index(SCAN)
    component = picture[frame + 10 : frame + 13]
    others = b"".join(bytes((number, *component[1:])) for number in (1, 2, 3))
    head = picture[:frame] + b"\xff\xc0\0\x11" + picture[frame + 4 : frame + 9] + b"\3" + others
    tables, data = picture[frame + 13 : scan], picture[scan + 10 : -2]
    parts = [
        b"\xff\xda\0\x08\1" + bytes((number,)) + picture[scan + 6 : scan + 10] + data for number in (1, 2, 3)
    ]
    return head + tables + b"".join(parts) + END


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_only_its_end_looks_as_with_it(
    child: DecoderProcess, kind: str, behind: str
) -> None:
    whole = photo(**KINDS[kind])
    expected = child.run(whole, (spec(100),)).variants

    outcome = child.run(whole[:-2] + BEHIND[behind], (spec(100),))

    assert outcome.variants == expected, outcome.answer


@pytest.mark.parametrize("behind", ["nothing", "zeros", "fill bytes", "end"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_pixels_is_damaged(child: DecoderProcess, kind: str, behind: str) -> None:
    whole = photo(**KINDS[kind])

    for missing in (2, 30, len(whole) // 2):
        cut = whole[: -2 - missing] + (END if behind == "end" else BEHIND[behind])
        assert child.run(cut, (spec(100),)).code == "corrupt_image", missing


def ending_in_ff() -> bytes:
    """A JPEG whose last byte of data is FF, behind which a zero says that it is no marker."""
    chance = Random(0)
    while True:
        file = io.BytesIO()
        Image.frombytes("L", (16, 16), chance.randbytes(256)).save(file, "JPEG")
        if file.getvalue().endswith(b"\xff\0" + END):
            return file.getvalue()


def test_the_zero_behind_a_last_ff_is_told_from_zeros_that_follow_the_data(child: DecoderProcess) -> None:
    whole = ending_in_ff()

    for behind in (b"", bytes(1), bytes(4000)):
        outcome = child.run(whole[:-2] + behind, (spec(16),))
        assert outcome.variants == child.run(whole, (spec(16),)).variants, outcome.answer
    assert child.run(whole[:-4] + bytes(1), (spec(16),)).code == "corrupt_image"


@pytest.mark.parametrize(
    ("warning", "harmless"),
    [
        ("VipsJpeg: read gave 1 warnings", True),
        ("VipsJpeg: read gave 2 warnings", False),
        ("VipsJpeg: Corrupt JPEG data: 17 extraneous bytes before marker 0xd9", True),
        ("VipsJpeg: Corrupt JPEG data: 17 extraneous bytes before marker 0xda", False),
        ("VipsJpeg: Corrupt JPEG data: premature end of data segment", False),
        ("exif: something else", True),
    ],
)
def test_a_second_warning_may_be_about_pixels_though_the_first_is_not(warning: str, harmless: bool) -> None:
    assert jpeg.is_harmless(warning) is harmless


@pytest.mark.parametrize(
    "behind", ["nothing", "zeros", "text", "another", "end behind an application's segment"]
)
@pytest.mark.parametrize("kind", ARITHMETIC)
def test_of_arithmetic_codes_nothing_is_known_without_their_end(
    child: DecoderProcess, kind: str, behind: str
) -> None:
    whole = base64.b64decode(ARITHMETIC[kind])
    odd = {"another": photo()[:-2], "end behind an application's segment": b"\xff\xe1\0\6" + END * 2}
    more = {**BEHIND, **odd}[behind]

    assert child.run(whole + more).status == "done"
    for missing in (0, 1, 30):
        assert child.run(whole[: -2 - missing] + more + b"text").code == "corrupt_image"


@pytest.mark.parametrize("lost", [0, 3, 6, 7])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "restart" in kind])
def test_a_jpeg_that_lacks_a_restart_marker_is_damaged(child: DecoderProcess, kind: str, lost: int) -> None:
    whole = photo(**KINDS[kind])
    places = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", whole)]
    place = places[lost]

    assert child.run(whole[:place] + whole[place + 2 :]).code == "corrupt_image"


@pytest.mark.parametrize("behind", BEHIND)
def test_a_height_that_follows_the_pixels_is_called_that_without_an_end_too(
    child: DecoderProcess, behind: str
) -> None:
    content = bytearray(photo())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 7] = bytes(2)

    outcome = child.run(bytes(content[:-2]) + b"\xff\xdc\0\4\0\x96" + BEHIND[behind])

    assert outcome.code == "unsupported_format"
    assert "its height is told only behind the picture" in outcome.answer["message"]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_press_colours_are_no_exception(child: DecoderProcess, mode: str) -> None:
    whole = photo(mode=mode)

    assert child.run(whole[:-2], (spec(100),)).variants == child.run(whole, (spec(100),)).variants
    assert child.run(whole[:-40], (spec(100),)).code == "corrupt_image"


def test_a_progressive_jpeg_that_lacks_a_scan_is_damaged_even_where_the_scan_before_is_whole(
    child: DecoderProcess,
) -> None:
    whole = photo(progressive=True)
    starts = scans(whole)

    assert len(starts) == 10
    for start in starts[1:]:
        assert child.run(whole[:start], (spec(100),)).code == "corrupt_image"


def test_a_jpeg_with_a_scan_for_each_component_needs_them_all(child: DecoderProcess) -> None:
    whole = in_three_scans(photo(mode="L"))
    starts = scans(whole)

    assert child.run(whole[:-2], (spec(100),)).variants == child.run(whole, (spec(100),)).variants
    for start in starts[1:]:
        assert child.run(whole[:start], (spec(100),)).code == "corrupt_image"


def test_a_warning_about_something_else_hides_no_missing_pixels(child: DecoderProcess) -> None:
    whole = photo()
    scan = whole.index(SCAN)
    odd = whole[:scan] + b"junk" + whole[scan:]

    assert child.run(odd).status == "done"
    assert child.run(odd[:-300]).code == "corrupt_image"


def test_damaged_ones_are_shown_as_far_as_they_go_where_that_is_wanted() -> None:
    with DecoderProcess(damaged="accept") as lenient:
        assert lenient.run(photo()[:-300]).status == "done"


@pytest.mark.parametrize("behind", [b"", b"hello", bytes(4), b"\xff\xd8\xff\xe0" + bytes(40) + END])
def test_a_jpeg_that_has_its_end_is_left_as_it_is(behind: bytes) -> None:
    for options in KINDS.values():
        picture = bytearray(photo(**options) + behind)
        before = bytes(picture)

        assert not jpeg.add_end(picture)
        assert picture == before


def test_fill_bytes_before_what_is_no_marker_cost_nothing() -> None:
    whole = photo()
    filled = bytearray(whole[:2] + b"\xff" * 20_000 + b"\0" + whole[2:])
    expected, since = headers.jpeg_shape(bytearray(whole), 200, 150), process_time()

    assert headers.jpeg_shape(filled, 200, 150) == expected
    assert kinds.unsupported("jpeg", filled) == ""
    assert process_time() - since < 0.2


ENDLESS = {
    "zeros": bytes(1_000_000),
    "fill bytes": b"\xff" * 20_000,
    "empty segments": b"\xff\xfe\0\2" * 1_000_000,
    "restart markers": b"\xff\xd0" * 500_000,
    "markers of nothing": b"\xff\1" * 500_000,
    "empty scans": b"\xff\xda\0\2" * 1_000_000,
}


@pytest.mark.parametrize("behind", ENDLESS)
def test_what_stands_behind_a_jpeg_is_searched_within_a_moment(behind: str) -> None:
    picture, since = bytearray(photo(progressive=True)[:-2]), process_time()

    jpeg.add_end(picture + ENDLESS[behind])
    jpeg.add_end(picture[:200] + ENDLESS[behind] + picture[200:])

    assert process_time() - since < 0.2
