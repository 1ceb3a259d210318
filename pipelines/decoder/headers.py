"""What headers say about the memory that decoding takes, and libvips does not tell."""

from pipelines.formats import Shape

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_ALONE = {0x01, *range(0xD0, 0xD9)}


def jpeg_shape(data: bytearray, width: int, height: int) -> Shape | None:
    """Return the shape of a JPEG of that size, None for anything else."""
    kind, components, density = 0, 0, 0.0
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF or marker in _ALONE:
            at += 1 if data[at] != 0xFF or marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
        if marker in _FRAMES and len(segment) >= 9:
            kind, components, density = marker, segment[5], _density(segment)
        elif marker == 0xDA and components and segment:
            # One scan for each component is as bad as progressive: all coefficients are kept.
            whole = kind in _PROGRESSIVE or segment[0] < components
            return Shape(width, height, components, whole=whole, density=density)
        at += 2 + max(2, len(segment) + 2)
    return None


def _density(frame: bytearray) -> float:
    factors = [(byte >> 4 or 1, byte & 15 or 1) for byte in frame[7::3]]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    return sum(h * v for h, v in factors) / (across * down)


def is_lossless_webp(data: bytearray) -> bool:
    """Say whether a WebP's first picture is stored lossless, which is decoded whole."""
    at = 12
    while at + 8 <= len(data):
        kind, length = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        at += 8 + (16 if kind == b"ANMF" else length + length % 2)  # a frame's chunks lie behind 16 bytes
    return False
