"""What a file that is no accepted picture seems to be by its first bytes, in words for a person."""

from pipelines.formats.table import HEAD, brands

# ISO/IEC 23008-12, annexes E to L: brands of pictures in a codec that is not read.
_PICTURE_BRANDS = {
    "a HEIF picture coded as AVC (H.264)": {b"avci", b"avcs"},
    "a HEIF picture coded as VVC (H.266)": {b"vvic", b"vvis"},
    "a HEIF picture coded as EVC": {b"evbi", b"evbs", b"evmi", b"evms"},
    "a HEIF picture coded as JPEG 2000": {b"j2ki", b"j2is"},
    "a HEIF picture coded as JPEG": {b"jpeg", b"jpgs"},
    "a HEIF picture of another kind": {b"mif2", b"mif3", b"miaf", b"unif"},
}
_VIDEO_BRANDS = {b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"3gp4", b"3gp5", b"avc1"}
# Canon (CRW), Fujifilm, Minolta, Olympus, Panasonic and Leica, Sigma, ARRI; others begin like TIFF.
_RAW_PHOTOS = (
    *(b"II\x1a\0\0\0HEAPCCDR", b"FUJIFILMCCD-RAW", b"\0MRM", b"IIRO", b"IIRS", b"MMOR"),
    *(b"IIU\0", b"FOVb", b"ARRI"),
)
_OTHERS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (_RAW_PHOTOS, "a raw photo"),
    ((b"%PDF",), "a PDF document"),
    ((b"%!PS",), "a PostScript document"),
    ((b"PK\x03\x04",), "a ZIP archive or an office document"),
    ((b"\x1f\x8b",), "a gzip archive"),
    ((b"8BPS",), "a Photoshop document"),
    ((b"\x00\x00\x00\x0cJXL ", b"\xff\x0a"), "a JPEG XL picture"),
    ((b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"), "a JPEG 2000 picture"),
    ((b"\x00\x00\x00\x0cJXS ", b"\xff\x10\xff\x50"), "a JPEG XS picture"),
    ((b"II\xbc\x01",), "a JPEG XR picture"),
    ((b"\x8aMNG\r\n\x1a\n",), "a MNG animation"),
    ((b"\x8bJNG\r\n\x1a\n",), "a JNG picture"),
    ((b"\xf4\xff\x6f",), "a WebP 2 picture"),
    ((b"BPG\xfb",), "a BPG picture"),
    ((b"FLIF",), "a FLIF picture"),
    ((b"\0\0\2\0",), "a mouse pointer or a TGA picture"),
    ((b"qoif",), "a QOI picture"),
    ((b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n"), "a PNM picture"),
    ((b"\x76\x2f\x31\x01",), "an OpenEXR picture"),
    ((b"#?RADIANCE",), "a Radiance HDR picture"),
    ((b"\x08\xf2\xa6\xb6", b"\xb6\xa6\xf2\x08"), "a VIPS working file"),
    ((b"\x7fELF", b"MZ"), "a program"),
    ((b"#!",), "a script"),
    ((b"OggS",), "an audio or video file"),
    ((b"ID3",), "an audio file"),
    ((b"\x1aE\xdf\xa3",), "a video"),
)


def describe(head: bytes) -> str:
    """Return what a file that is none of the formats seems to be, in words for a person."""
    if head[:2] == b"BA" and head[14:16] == b"BM":
        return "an array of bitmaps by IBM"
    for signatures, words in _OTHERS:
        if head.startswith(signatures):
            return words
    if found := brands(head):
        if b"crx " in found:  # Canon (CR3)
            return "a raw photo"
        for words, theirs in _PICTURE_BRANDS.items():
            if found & theirs:
                return words
        return "a video" if found & _VIDEO_BRANDS else "a media file of another kind"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in head[:HEAD].lower():
        return "an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if _is_text(head[:512]):
        return "a text file"
    return "a file of an unknown kind"


def _is_text(start: bytes) -> bool:
    try:
        words = start.decode()
    except UnicodeDecodeError as error:  # a character cut in two at the end is still text
        words = start[: error.start].decode() if len(start) - error.start < 4 else ""
    return bool(words) and all(letter.isprintable() or letter.isspace() for letter in words)
