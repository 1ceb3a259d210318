"""Refusing a picture: an error code of the contract and words that the person who uploaded it understands."""

import re

STARVED = "starved"  # no code of the contract: it is for the parent, not for who uploaded the picture
_LONGEST = 300
_MIB = 1024 * 1024
_SAYS_NOTHING = (
    *("unable to call", "unable to copy", "unable to open source", "memory area too small"),
    *("images do not match between header and load", "not identified by this driver"),
)
_LOOSE = " .:"
_NUMBERS = re.compile(r" ?\([\d.]+\)$")  # libheif's own error numbers
_PREFIX = re.compile(r"^((VIPS|Vips\w+|vips\w+|\w+2vips|\w+load_source|heif|webp|source input): )+")
_ODD = re.compile(r"[^\w .,:;()'%/+=-]|(?<!\w)/[\w./-]+|0x[0-9a-fA-F]+", re.ASCII)


class Declined(Exception):
    """The picture is refused, for good."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:_LONGEST]


def too_large(size: int, limit: int) -> Declined:
    return Declined(
        "source_too_large", f"The file has {_megabytes(size)}; at most {_limit(limit)} are accepted."
    )


def unsupported(what: str, accepted: list[str]) -> Declined:
    return Declined("unsupported_format", f"This is {what}, not a supported picture ({', '.join(accepted)}).")


def raw_photo() -> Declined:
    """What a sensor saw is no picture yet, and the small one beside it is not what was uploaded."""
    return Declined("unsupported_format", "This is a raw photo, not a supported picture; export it as JPEG.")


def empty() -> Declined:
    return Declined("corrupt_image", "The file is empty.")


def corrupt(title: str, detail: str = "") -> Declined:
    """The picture is damaged, incomplete or malformed; `detail` is the library's word for it."""
    return Declined("corrupt_image", f"The {title} picture is damaged or incomplete{_in_brackets(detail)}.")


def unknown_kind(title: str, detail: str) -> Declined:
    """The format is accepted, but this way to write it is none that the libraries can read."""
    return Declined(
        "unsupported_format",
        f"This kind of {title} picture is not supported{_in_brackets(detail)}; "
        f"export it as an ordinary {title}.",
    )


def too_many_pixels(width: int, height: int, limit: int) -> Declined:
    return Declined(
        "too_many_pixels",
        f"The picture has {_megapixels(width * height)} megapixels ({width} x {height}); "
        f"at most {_megapixels(limit)} are accepted.",
    )


def too_much_memory(title: str) -> Declined:
    return Declined("too_much_memory", f"The {title} picture needs more memory to decode than is allowed.")


def starved(lack: str) -> Declined:
    """The machine refused what decoding needs: nothing is known of the picture."""
    return Declined(STARVED, f"The machine refused a decoder what it needs{_in_brackets(lack)}.")


def plain(text: str, longest: int = 180) -> str:
    """Return the first line of a library's message without paths, addresses or anything unprintable."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return _cut(" ".join(_ODD.sub("", line).split()), longest)


def _cut(words: str, longest: int) -> str:
    """The words that there is room for, without a bracket that does not end; else with a sign of the cut."""
    is_cut = len(words) > longest
    if is_cut:
        words = words[:longest].rpartition(" ")[0] or words[:longest]
    opened = words.rfind("(")
    if opened > words.rfind(")"):
        return words[:opened].rstrip(_LOOSE)
    return f"{words.rstrip(_LOOSE)} …" if is_cut else words.rstrip(_LOOSE)


def _in_brackets(detail: str) -> str:
    words = _NUMBERS.sub("", _PREFIX.sub("", plain(detail))).rstrip(_LOOSE)
    return f" ({words})" if words and not words.startswith(_SAYS_NOTHING) else ""


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 100_000 else f"{size} bytes"


def _limit(size: int) -> str:
    """As limits are set: in whole MiB, if it is."""
    return f"{size // _MIB} MiB" if size % _MIB == 0 else _megabytes(size)


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1_000_000:,.2f}".rstrip("0").rstrip(".")
