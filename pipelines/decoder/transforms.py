"""What turns, mirrors and crops a HEIC or AVIF whose opacity lies otherwise: taken out, and done later."""

from dataclasses import dataclass

from pipelines.decoder import cicp
from pipelines.decoder.boxes import Images, number
from pipelines.decoder.picture import Image

# Orientations as in EXIF: what becomes of each by a quarter turn against the clock, and by exchanging sides.
_TURNED = {1: 8, 8: 3, 3: 6, 6: 1, 2: 5, 5: 4, 4: 7, 7: 2}
_MIRRORED = {1: 2, 2: 1, 3: 4, 4: 3, 5: 6, 6: 5, 7: 8, 8: 7}


@dataclass(frozen=True)
class Transforms:
    """What is to be done with the pixels as they are stored: first to crop, then to turn."""

    orientation: int = 1
    aperture: bytes = b""

    def size(self, width: int, height: int) -> tuple[int, int]:
        return self._window(width, height)[2:]

    def cropped(self, image: Image) -> Image:
        if not self.aperture:  # as of nearly all: libvips need not be asked how large it is
            return image
        window = self._window(image.width, image.height)
        return image if window == (0, 0, image.width, image.height) else image.crop(*window)

    def _window(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return what the clean aperture leaves (ISO/IEC 14496-12, 12.1.4): all where it is none."""
        if len(self.aperture) < 32:
            return 0, 0, width, height
        across, down = (self._aperture(at) for at in (0, 8))
        left = (width - across) / 2 + self._aperture(16)
        top = (height - down) / 2 + self._aperture(24)
        inside = across >= 1 and down >= 1 and left >= 0 and top >= 0
        if not inside or left + across > width or top + down > height:
            return 0, 0, width, height
        return int(left), int(top), int(across), int(down)

    def _aperture(self, at: int) -> float:
        upper, lower = (_signed(self.aperture[place : place + 4]) for place in (at, at + 4))
        return upper / lower if lower > 0 else -1e9


def taken_out(data: bytes | bytearray) -> tuple[bytearray, Transforms]:
    """Return the file without what turns, mirrors and crops its picture and the opacity, and what that is."""
    left = bytearray(data)
    images = Images(left)
    orientation, aperture = 1, b""
    for kind, body in cicp.transforms(images.properties(images.primary)):
        how = number(body[:1])
        match kind:
            case b"clap":
                aperture = aperture or bytes(body[:32])
            case b"irot":
                orientation = _turned(orientation, how & 3)
            case b"imir":
                orientation = _MIRRORED[orientation if how & 1 else _turned(orientation, 2)]
    images.forget(cicp.TRANSFORMS, [images.primary, *cicp.opacity(images)])
    return left, Transforms(orientation, aperture)


def _turned(orientation: int, quarters: int) -> int:
    for _ in range(quarters):
        orientation = _TURNED[orientation]
    return orientation


def _signed(field: bytes) -> int:
    return int.from_bytes(field, signed=True)
