"""How much memory decoding takes: what a header says of a picture, and an estimate for each format.

Measured on libvips 8.18, libheif 1.23 and Pillow 13: each estimate is 1 to 1.3 times the growth of a child's
memory from 24 megapixels up. Small pictures cost less than the floor.
"""

from dataclasses import dataclass

MIB = 1024 * 1024
FLOOR = 12 * MIB
# Times the variant's pixels in memory. Of JPEGs only progressive ones are held whole to be encoded. Small
# ones are, with all scans that were tried: noise of quality 100 takes that much, photos take half. As WebP
# photos take half, too; noise takes 5.3, and 8.7 of quality 100. That is within the overdraft up to 1920².
ENCODER = {
    "jpeg": 2.4,
    "progressive jpeg 4:4:4": 4.4,
    "small jpeg": 5.2,
    "small jpeg 4:4:4": 10.4,
    "webp": 3.2,
    "webp of high quality": 5.4,
    "avif": 9.0,
    "avif 4:4:4": 13.5,
}
# Times the pixels beyond 1920²: what noise takes more.
_NOISE = {"webp": 2.9, "webp of high quality": 3.5}


@dataclass(frozen=True)
class Shape:
    """A header's facts about the work ahead: size and samples as stored, whether all is needed at once."""

    width: int
    height: int
    bands: int = 3
    sample: int = 1  # bytes
    whole: bool = False
    """Progressive, interlaced, lossless, plane by plane: whatever keeps the decoder from streaming."""
    density: float = 3.0  # of a JPEG or AVIF: samples of colour stored for each pixel
    rows: float = 0.0  # of a picture that streams: that are at hand at once, as far as that is known
    reduced: bool = False
    """Decoded with more than eight bits, and then handed over in eight."""
    held: int = 0
    """Bytes that are in memory beside the rows in work: of a TIFF, rows of tiles, or all of it; of a plain
    JPEG, all that it is decoded to."""

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def bytes(self) -> int:
        return self.pixels * self.bands * self.sample


def beside_held(variant_pixels: int) -> int:
    """Return what a plain JPEG that is held takes more where it is hardly scaled down to its variant.

    That is in memory beside it then, and much of it once more. Measured at 5 to 8 megapixels, whichever way
    they are turned; smaller ones cost less than the floor.
    """
    return int(1.7 * max(0, 3 * (variant_pixels - 1920 * 1920)))


def of_noise(encoder: str, variant_pixels: int) -> int:
    """Return what noise takes more than photos in a variant beyond 1920²: less is in the overdraft."""
    return int(3 * _NOISE.get(encoder, 0) * max(0, variant_pixels - 1920 * 1920))


def rows_at_hand(source: float, made: int) -> float:
    """Return how many rows libvips keeps of a picture of `source` rows while it makes `made` rows of them.

    That is a share of a picture of the usual proportions, and all of one that is wide and low, nearly twice.
    Measured from `made` 4 to 900, and `source` 200 to 9000.
    """
    kept = min(850 + 3.2 * made, 330 * source / made, 1900, 1.9 * source)
    return kept + min(made, 250)


def _streamed(shape: Shape) -> float:
    share = {1: 0.2, 2: 0.26}.get(shape.sample, 0.22 * shape.sample)
    rows = {1: 1.0, 2: 1.5}.get(shape.sample, 1.1 * shape.sample)
    return shape.bands * max(shape.pixels * share, shape.width * shape.rows * rows)


def jpeg(shape: Shape) -> int:
    coefficients = shape.pixels * 2 * shape.density if shape.whole else 0.0
    streamed = shape.bands * max(shape.pixels * 0.1, shape.width * shape.rows)
    return int(coefficients + max(shape.held, streamed))


def png(shape: Shape) -> int:
    if not shape.whole:
        return int(_streamed(shape))
    return int(shape.bytes + shape.bands * max(shape.pixels * 0.12, shape.width * shape.rows * 0.55))


def webp(shape: Shape) -> int:
    return int(shape.pixels * (4.1 if shape.whole else 2.0 if shape.bands == 4 else 0.1))


def gif(shape: Shape) -> int:
    return int(shape.pixels * 4 + max(shape.pixels * 0.8, shape.width * shape.rows * 3.2))


def tiff(shape: Shape) -> int:
    return int((shape.bytes if shape.whole else 0) + shape.held + _streamed(shape))


def avif(shape: Shape) -> int:
    if shape.sample > 1:
        return int(shape.pixels * (12.2 + 4 * shape.density + 2.8 * (shape.bands == 4)))
    return int(shape.pixels * (15.5 + (shape.bands == 4)))


def heic(shape: Shape) -> int:
    if shape.sample > 1:
        return int(shape.pixels * {1: 3.4, 3: 9.8}.get(shape.bands, 12.6))
    if shape.reduced:
        return int(shape.pixels * (11.8 if shape.bands < 4 else 17))
    return int(shape.pixels * (4.8 if shape.bands < 4 else 7))


def bmp(shape: Shape) -> int:
    if shape.whole:  # run lengths are unpacked to one byte a pixel, and the rest is streamed
        return int(shape.pixels * 1.05)
    return int(shape.pixels * {1: 2.2, 3: 4.5}.get(shape.bands, 8.4))  # what Pillow keeps, and a copy


def ico(shape: Shape) -> int:
    return shape.pixels * 13 if shape.whole else int(_streamed(shape))
