"""What decoding a TIFF takes beyond what its bytes are worth: more work than any honest file of that size."""

from itertools import islice

from pipelines.decoder import jpeg
from pipelines.decoder.tiff_header import Directory
from pipelines.decoder.tiff_page import JPEG, OLD_JPEG, UNCOMPRESSED, TiffPage

# Bytes of samples: those of any picture up to 100 megapixels of four bytes, and more for more bytes.
_MOST_UNPACKED, _UNPACKED_FOR_A_BYTE, _MOST_OF_ALL = 400_000_000, 200, 1_300_000_000
# Numbers are looked through for the smallest and the largest: each takes ten times as long as a shade.
_MOST_NUMBERS, _NUMBERS_FOR_A_BYTE = 16_000_000, 6
_SHARED = 16 * 1024 * 1024  # blank tiles may be stored once for all


def excess(page: TiffPage, directory: Directory) -> str:
    """Say what the page has too much of, in words with numbers; empty if of nothing."""
    size, pixels = len(directory.data), page.width * page.height
    samples = pixels * page.samples
    unpacked = page.plane_bytes * (len(page.wanted) if page.separate else 1)
    packed = page.compression != UNCOMPRESSED
    if page.is_numbers and samples > max(_MOST_NUMBERS, _NUMBERS_FOR_A_BYTE * size):
        return f"{samples / 1e6:.1f} million numbers in {_of(size)}"
    if unpacked > min(_MOST_UNPACKED + _UNPACKED_FOR_A_BYTE * size, _MOST_OF_ALL):
        return f"{pixels / 1e6:.1f} megapixels of {page.samples} {page.bits}-bit samples in {_of(size)}"
    if packed and (named := _named(page, directory)) > 2 * size + _SHARED:
        return f"strips or tiles of {_of(named)} altogether that share {_of(size)}"
    if (
        page.compression in (JPEG, OLD_JPEG)
        and (scans := _scans(page, directory)) > jpeg.MOST_WALKED / pixels
    ):
        return f"{scans:.0f} scans of {pixels / 1e6:.1f} megapixels"
    return ""


def _scans(page: TiffPage, directory: Directory) -> float:
    """Return how often scans of JPEG walk the pixels, about."""
    data, chunks = directory.data, page.across * -(-page.height // page.chunk[1])
    whole = data.count(jpeg.SCAN_MARKER)
    if page.compression == OLD_JPEG or whole <= jpeg.MOST_WALKED / page.width / page.height:
        return whole
    places = zip(*map(directory.each, page.places), strict=False)
    return sum(data.count(jpeg.SCAN_MARKER, begin, begin + size) for begin, size in places) / chunks


def _named(page: TiffPage, directory: Directory) -> int:
    """Return how many bytes the strips or tiles have altogether, if none were another's."""
    planes = page.samples if page.separate else 1
    count = page.across * -(-page.height // page.chunk[1]) * planes
    return sum(islice(directory.each(page.places[1]), count))


def _of(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"
