"""Small pictures, and forms around them."""

import zlib
from struct import pack


def png(*texts: bytes) -> bytes:
    """A picture of one pixel, with chunks of text."""
    chunks = [
        (b"IHDR", pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        *((b"tEXt", b"Comment\0" + text) for text in texts),
        (b"IDAT", zlib.compress(b"\0\0")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def form(*parts: tuple[str, str | None, bytes], boundary: str = "b") -> bytes:
    """A form of those fields, each with its file name and content."""
    written = b""
    for name, file, content in parts:
        said = "" if file is None else f'; filename="{file}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{said}\r\n\r\n'
        written += head.encode() + content + b"\r\n"
    return written + f"--{boundary}--\r\n".encode()
