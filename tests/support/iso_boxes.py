"""HEIC and AVIF files with other boxes: properties of the primary image, and references from it."""

import struct


def box(kind: bytes, body: bytes) -> bytes:
    """One box of an ISO media file."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def nclx(primaries: int, transfer: int, matrix: int = 6, *, full: bool = True) -> bytes:
    """The content of a colour box by number."""
    return b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, full << 7)


def numbered(content: bytes, primaries: int, transfer: int) -> bytes:
    """The file with these numbers; matrix and range stay, since the pixels were encoded by them."""
    at = content.find(b"colrnclx") + 8
    if at < 8:
        return with_property(content, b"colr", nclx(primaries, transfer))
    return content[:at] + struct.pack(">HH", primaries, transfer) + content[at + 4 :]


def with_property(content: bytes, kind: bytes, body: bytes) -> bytes:
    """The file with one more property of its first item."""
    parts = _parts(_meta(content))
    iprp = _parts(parts[b"iprp"])
    count = sum(1 for _ in _walk(iprp[b"ipco"]))
    iprp[b"ipco"] += box(kind, body)
    ipma = bytearray(iprp[b"ipma"])
    ipma[10] += 1  # how many the first item has
    essential = 0x80 if kind in (b"irot", b"imir", b"clap") else 0
    ipma[11:11] = bytes([essential | count + 1])
    iprp[b"ipma"] = bytes(ipma)
    parts[b"iprp"] = b"".join(box(*part) for part in iprp.items())
    return _rebuilt(content, parts)


def with_reference(content: bytes, kind: bytes, source: int, to: int) -> bytes:
    """The file with one more reference between its items."""
    parts = _parts(_meta(content))
    parts[b"iref"] = parts.get(b"iref", bytes(4)) + box(kind, struct.pack(">HHH", source, 1, to))
    return _rebuilt(content, parts)


def with_parts(content: bytes, others: dict[bytes, bytes]) -> bytes:
    """The file with other parts in its description; the pictures stay where they were only if `iloc` does."""
    parts = _parts(_meta(content)) | others
    meta = bytes(4) + b"".join(box(*part) for part in parts.items())
    return b"".join(box(kind, meta if kind == b"meta" else body) for kind, body in _walk(content))


def _meta(content: bytes) -> bytes:
    return next(body for kind, body in _walk(content) if kind == b"meta")[4:]


def _walk(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + (size or len(data))]))
        at += size or len(data)
    return found


def _parts(data: bytes) -> dict[bytes, bytes]:
    return dict(_walk(data))


def _rebuilt(content: bytes, parts: dict[bytes, bytes]) -> bytes:
    before = len(_meta(content))
    grown = sum(8 + len(body) for body in parts.values()) - before
    parts[b"iloc"] = _moved(parts[b"iloc"], grown)
    meta = bytes(4) + b"".join(box(*part) for part in parts.items())
    return b"".join(box(kind, meta if kind == b"meta" else body) for kind, body in _walk(content))


def _moved(iloc: bytes, by: int) -> bytes:
    """The places of the items, all of which lie behind the box that grew."""
    version, base, moved = iloc[0], iloc[5] >> 4, bytearray(iloc)
    at = 8
    for _ in range(int.from_bytes(iloc[6:8])):
        at += 4 + 2 * (version > 0)
        extents = int.from_bytes(iloc[at + base : at + base + 2])
        places = [at] if base else [at + 2 + 8 * n for n in range(extents)]
        for place in places:
            moved[place : place + 4] = struct.pack(">I", by + int.from_bytes(iloc[place : place + 4]))
        at += base + 2 + 8 * extents
    return bytes(moved)


def numbered_in_stream(content: bytes, primaries: int, transfer: int) -> bytes:
    """An AVIF without its colour box, whose sequence header says these numbers instead of 1, 13 and 6."""
    content = content.replace(b"colrnclx", b"freenclx")
    length = 8 * len(content)
    bits = f"{int.from_bytes(content):0{length}b}"
    told = f"1{1:08b}{13:08b}{6:08b}"
    assert bits.count(told) == 1
    return int(bits.replace(told, f"1{primaries:08b}{transfer:08b}{6:08b}"), 2).to_bytes(length // 8)
