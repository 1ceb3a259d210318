"""What Pillow's libtiff decodes and libvips' does not: Zstandard, LZMA, old JPEG, YCbCr without JPEG."""

import io
import zlib
from collections.abc import Iterator, Sequence

import pyvips
from PIL import Image as PillowImage
from PIL import ImageFile, TiffImagePlugin

from pipelines.decoder import tiff_header
from pipelines.decoder.picture import Image
from pipelines.decoder.tiff_header import LONG, SHORT, Directory, NewEntry, Tags
from pipelines.decoder.tiff_page import BLACK_IS_ZERO, BYTES_APART, DIFFERENCES, UNCOMPRESSED, TiffPage

TiffImagePlugin.READ_LIBTIFF = True  # also what is not compressed: its colours may be stored in fewer places

_DEFLATE = 8
_PIECE = 256 * 1024  # bytes of a new strip or tile, about: libvips keeps a row of them in memory
_ROWS, _MOST_ROWS = 16, 256  # a tile's height is a multiple of 16
_KEPT = (tiff_header.COMPRESSION, tiff_header.FILL_ORDER, *tiff_header.CHUNKS)


def colours(directory: Directory, tags: Tags, damaged: str) -> Image:
    """Return RGB of a page whose colours libtiff itself converts."""
    return _taken(_opened(directory, tags, damaged), "RGB").copy(interpretation="srgb")


def as_bytes(page: TiffPage, directory: Directory, plane: Tags, damaged: str) -> Image:
    """Return a pixel for each byte of a plane's rows, those of tiles side by side."""
    return _taken(_opened(directory, _as_grey(page, directory, plane), damaged), "L")


def _taken(opened: PillowImage.Image, mode: str) -> Image:
    """Return the pixels as an image of libvips, copied some rows at a time so that there are never three."""
    (width, height), bands = opened.size, len(mode)
    pixels = bytearray(width * height * bands)
    for top, rows in _pieces(opened, max(1, _PIECE // width)):
        part = rows.convert(mode).tobytes()
        pixels[top * width * bands : top * width * bands + len(part)] = part
    return pyvips.Image.new_from_memory(pixels, width, height, bands, "uchar")


def recompressed(
    page: TiffPage, directory: Directory, planes: Sequence[Tags], damaged: str
) -> tuple[bytearray, list[Tags]]:
    """Return a file with the samples of these planes as libvips' libtiff can read them, and its directories.

    Pillow hands over the bytes of rows as if they were shades of grey; what they mean is left to libvips, and
    so is the predictor: it works within a row, wherever strips begin.
    """
    data = directory.data[: directory.layout.first + directory.layout.link.size]
    return data, [_moved(data, page, directory, plane, damaged) for plane in planes]


def _moved(data: bytearray, page: TiffPage, directory: Directory, plane: Tags, damaged: str) -> Tags:
    step, across, pack = page.row_bytes, page.across, directory.pack
    grey = _opened(directory, _as_grey(page, directory, plane), damaged)
    filtered = page.predictor in (DIFFERENCES, BYTES_APART)
    rows = min(max(_ROWS, _PIECE // (step * across) // _ROWS * _ROWS), _MOST_ROWS)
    begins, lengths = list[int](), list[int]()
    for _, piece in _pieces(grey, rows, full=page.tiled):
        for left in range(0, piece.width, step):
            content = piece.crop((left, 0, left + step, piece.height)).tobytes()
            content = zlib.compress(content, 0) if filtered else content
            begins.append(len(data))
            lengths.append(len(content))
            data += content
    chunks: Tags
    if page.tiled:
        chunks = {
            tiff_header.TILE_WIDTH: pack(LONG, page.chunk[0]),
            tiff_header.TILE_HEIGHT: pack(LONG, rows),
        }
    else:
        chunks = {tiff_header.ROWS_PER_STRIP: pack(LONG, rows)}
    places = tiff_header.PLACES[2:] if page.tiled else tiff_header.PLACES[:2]
    return {
        **{tag: value for tag, value in plane.items() if isinstance(value, NewEntry)},
        **chunks,
        tiff_header.COMPRESSION: pack(SHORT, _DEFLATE if filtered else UNCOMPRESSED),
        tiff_header.PREDICTOR: pack(SHORT, page.predictor if filtered else 1),
        places[0]: pack(LONG, *begins),
        places[1]: pack(LONG, *lengths),
    }


def _as_grey(page: TiffPage, directory: Directory, plane: Tags) -> Tags:
    """Return the directory of a picture with a pixel for each byte of the plane."""
    pack, high = directory.pack, page.chunk[1]
    grey: Tags = {tag: plane[tag] for tag in _KEPT if tag in plane}
    if page.tiled:
        grey[tiff_header.TILE_WIDTH] = pack(LONG, page.row_bytes)
    if page.predictor == BYTES_APART and page.needs_bytes:
        grey[tiff_header.PREDICTOR] = pack(SHORT, DIFFERENCES)
    return grey | {
        tiff_header.WIDTH: pack(LONG, page.row_bytes * page.across),
        tiff_header.HEIGHT: pack(LONG, -(-page.height // high) * high if page.tiled else page.height),
        tiff_header.BITS: pack(SHORT, 8),
        tiff_header.PHOTOMETRIC: pack(SHORT, BLACK_IS_ZERO),
        tiff_header.SAMPLES: pack(SHORT, 1),
    }


def _opened(directory: Directory, tags: Tags, damaged: str) -> PillowImage.Image:
    """Let Pillow decode the page that these tags describe."""
    ImageFile.LOAD_TRUNCATED_IMAGES = damaged == "accept"
    # Pillow knows no BigTIFF in Motorola's order. No upload is so large that it must be one.
    layout = tiff_header.as_classic(directory.data, directory.layout)
    tiff_header.put(directory.data, [_narrow(directory, tags)], layout)
    most = PillowImage.MAX_IMAGE_PIXELS
    # The pixels were counted; here each of their bytes would count as one.
    PillowImage.MAX_IMAGE_PIXELS = None
    try:
        opened = TiffImagePlugin.TiffImageFile(io.BytesIO(directory.data))
        opened.load()
    finally:
        PillowImage.MAX_IMAGE_PIXELS = most
    return opened


def _narrow(directory: Directory, tags: Tags) -> Tags:
    """Return the tags with the places that they name in four bytes."""
    wide = (tiff_header.LONG8, tiff_header.IFD8)
    return {
        tag: directory.pack(LONG, *directory.values(value)) if value.kind in wide else value
        for tag, value in tags.items()
    }


def _pieces(
    opened: PillowImage.Image, rows: int, *, full: bool = False
) -> Iterator[tuple[int, PillowImage.Image]]:
    """Yield so many rows after others, lest all be copied at once; the last piece may be made full."""
    for top in range(0, opened.height, rows):
        end = top + rows if full else min(top + rows, opened.height)
        yield top, opened.crop((0, top, opened.width, end))
