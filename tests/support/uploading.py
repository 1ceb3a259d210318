"""Words for tests that upload over HTTP: what was stored and announced, and forms as browsers write them."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from tests.support.face import OpenFace

BOUNDARY = "----a-boundary-of-the-tests"


async def announced(opened: OpenFace) -> list[dict[str, Any]]:
    """The events on the stream, oldest first."""
    entries = await opened.face.queue.redis.xrange(opened.face.settings.stream)
    return [orjson.loads(fields[b"event"]) for _, fields in entries]


async def stored(opened: OpenFace) -> dict[str, bytes]:
    """The originals in the storage."""
    blobs = opened.face.stores.blobs
    return {key: await blobs.get(key) async for page in blobs.list("uploads") for key in page}


def digest_of(content: bytes) -> str:
    """The value of Repr-Digest."""
    return f"sha-256=:{b64encode(sha256(content).digest()).decode()}:"


def form(*fields: tuple[str, bytes], boundary: str = BOUNDARY) -> tuple[bytes, Mapping[str, str]]:
    """A form with these fields in that order, and the header that says that it is one."""
    parts = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{_more(name)}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in fields
    )
    header = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return parts + f"--{boundary}--\r\n".encode(), header


def _more(name: str) -> str:
    return '; filename="cat.jpg"\r\nContent-Type: image/jpeg' if name == "file" else ""
