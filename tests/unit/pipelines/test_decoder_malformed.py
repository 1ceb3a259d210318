"""Malformed pictures that once made the decoder stumble: refused in words, and the next one goes on."""

from collections.abc import Iterator

import pytest

from tests.support import bombs
from tests.support.decoder_child import DecoderProcess


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


@pytest.mark.parametrize("size", [(0, 0), (64, 0), (0, 64), (64, 2**32 - 1), (2**32 - 1, 2**32 - 1)])
@pytest.mark.parametrize("kind", ["avif", "heic"])
def test_a_picture_that_says_it_has_no_pixels_or_too_many_is_refused(
    child: DecoderProcess, kind: str, size: tuple[int, int]
) -> None:
    content = bombs.avif() if kind == "avif" else bombs.heic()

    answer = child.run(bombs.boxed(content, *size))

    assert answer.code in {"corrupt_image", "too_many_pixels"}
    assert child.run(content).status == "done"


def test_a_name_that_is_no_text_in_a_warning_of_the_library_is_refused(child: DecoderProcess) -> None:
    content = _with_an_essential_property_of_an_odd_name(bombs.avif())

    answer = child.run(content)

    assert answer.code == "corrupt_image"
    assert child.run(bombs.avif()).status == "done"


def _with_an_essential_property_of_an_odd_name(content: bytes) -> bytes:
    odd = bytearray(content.replace(b"pixi", b"\xe3ixi"))
    at = odd.index(b"ipma") + 8  # then: how many items, and of each its number, and its properties
    for place in range(at + 7, at + 7 + odd[at + 6]):
        odd[place] |= 0x80
    return bytes(odd)
