"""The words for a refused picture: a code of the contract and a reason that its owner understands."""

import struct

import pytest

from pipelines.decoder import vips
from pipelines.decoder.refusal import corrupt, too_large, unknown_kind
from pipelines.formats import FORMATS

BMP = next(known for known in FORMATS if known.name == "bmp")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("VipsJpeg: Premature end of JPEG file", "is damaged or incomplete (Premature end of JPEG file)."),
        (
            "heif: Invalid input: No ftyp box (2.100)",
            "is damaged or incomplete (Invalid input: No ftyp box).",
        ),
        (
            "heif: Invalid input: "
            + "word " * 24
            + "data outside of file bounds (points to file position 123)",
            f"is damaged or incomplete (Invalid input: {'word ' * 24}data outside of file bounds).",
        ),
        (
            "heif: Invalid input: Security limit exceeded: 'iref' box contains more than 256 reference "
            "entries, which exceeds the security limit. (2.1000)",
            "is damaged or incomplete (Invalid input: Security limit exceeded: 'iref' box contains more than "
            "256 reference entries, which exceeds the security limit).",
        ),
        ("one " * 60, f"is damaged or incomplete ({'one ' * 45}…)."),
        ("x" * 190, f"is damaged or incomplete ({'x' * 180} …)."),
        ("(2.100)", "is damaged or incomplete."),
        ("VipsForeignLoad: unable to open source for input", "is damaged or incomplete."),
        ("unable to call heifload_source", "is damaged or incomplete."),
        ("memory area too small -- should be 9 bytes, you passed 8", "is damaged or incomplete."),
        ("VipsImage: images do not match between header and load", "is damaged or incomplete."),
        ("not identified by this driver", "is damaged or incomplete."),
        ("", "is damaged or incomplete."),
    ],
)
def test_a_librarys_word_is_quoted_as_far_as_it_says_something(said: str, answer: str) -> None:
    assert corrupt("HEIC", said).message == f"The HEIC picture {answer}"


@pytest.mark.parametrize(
    "said", ["Unsupported BMP compression (4)", "Unsupported feature: Unsupported codec (4.3000)"]
)
def test_a_kind_that_the_library_does_not_know_is_unsupported_and_not_called_damaged(said: str) -> None:
    refused = vips.refusal(BMP, OSError(said))

    assert refused.code == "unsupported_format"
    assert "damaged" not in refused.message
    assert "BMP" in refused.message


@pytest.mark.parametrize(
    "error",
    [
        struct.error(
            "unpack_from requires a buffer of at least 66 bytes for unpacking 12 bytes at offset 54"
        ),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        IndexError("index out of range"),
        OverflowError("int too big to convert"),
    ],
)
def test_words_of_the_language_are_not_quoted(error: Exception) -> None:
    assert vips.refusal(BMP, error).message == "The BMP picture is damaged or incomplete."


def test_a_kind_that_is_not_supported_is_told_with_what_to_do() -> None:
    said = unknown_kind("JPEG", "12 bits a sample").message

    assert said.endswith("is not supported (12 bits a sample); export it as an ordinary JPEG.")


@pytest.mark.parametrize(
    ("limit", "words"), [(10 << 20, "10 MiB"), (5_000_000, "5.0 MB"), (700, "700 bytes")]
)
def test_a_limit_of_bytes_is_told_as_it_was_set(limit: int, words: str) -> None:
    assert too_large(12_600_000, limit).message == f"The file has 12.6 MB; at most {words} are accepted."
