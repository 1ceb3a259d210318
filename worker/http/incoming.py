"""A picture that is on its way: recognised by its first bytes, counted and hashed."""

import hashlib
import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing

from pipelines.decoder import refusal
from pipelines.formats import BY_NAME, FORMATS, HEAD, Format, describe, sniff
from storage.blobs import BlobInfo, Read
from worker.http.bodies import SentPicture
from worker.http.problems import Problem

_EXTENSIONS = {"jpeg": "jpg"}  # of the others the name is the extension


def extension_of(format_name: str) -> str:
    """How the names of uploads of that format end."""
    return _EXTENSIONS.get(format_name, format_name)


EXTENSIONS = tuple(extension_of(known.name) for known in FORMATS)
"""How names of uploads may end."""


class Incoming:
    """The picture of one request; `chunks` are read once."""

    def __init__(self, sent: SentPicture, accepted: Collection[str], digest: bytes | None) -> None:
        self.sent = sent
        self.bytes = 0
        self.sha256 = ""
        """Known once all has come."""
        self.error: Exception | None = None
        """What ended it before its end: whoever stores it may say another."""
        self._accepted = accepted
        self._digest = digest
        self._chunks = sent.chunks()
        self._head = b""

    async def extension(self) -> str:
        """How the name of such a picture ends, by its first bytes. Raises: Problem (unsupported_format)."""
        head = bytearray()
        async for chunk in self._chunks:
            head += chunk
            if len(head) >= HEAD:
                break
        self._head = bytes(head)
        known = sniff(self._head[:HEAD])
        if known is None or known.name not in self._accepted:
            raise Problem("unsupported_format", self._refusal(known))
        return extension_of(known.name)

    async def chunks(
        self, at_end: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """All its bytes; `at_end` is called once all have come and are right.

        Raises: Problem (digest_mismatch), and what `at_end` raises, in the place of the end.
        """
        try:
            async for chunk in self._hashed():
                yield chunk
            if at_end is not None:
                await at_end()
        except Exception as error:
            self.error = error
            raise

    async def _hashed(self) -> AsyncGenerator[bytes, None]:
        hashed = hashlib.sha256(self._head)
        self.bytes = len(self._head)
        yield self._head
        self._head = b""
        async for chunk in self._chunks:
            self.bytes += len(chunk)
            hashed.update(chunk)
            yield chunk
        self.sha256 = hashed.hexdigest()
        if self._digest is not None and not hmac.compare_digest(self._digest, hashed.digest()):
            raise Problem(
                "digest_mismatch", "The bytes that came have another SHA-256 than Repr-Digest says."
            )

    async def read(self) -> None:
        """Read it to its end, for its hash alone. Raises: Problem."""
        async with aclosing(self.chunks()) as chunks:
            async for _ in chunks:
                pass

    async def is_same(self, blobs: Read, stored: BlobInfo) -> bool:
        """Whether all that came are the bytes of that blob. Raises: BlobNotFound."""
        if stored.bytes != self.bytes:
            return False
        hashed = hashlib.sha256()
        async with aclosing(blobs.read(stored.key)) as parts:
            async for part in parts:
                hashed.update(part)
        return hashed.hexdigest() == self.sha256

    async def aclose(self) -> None:
        """Read no more of it."""
        await self._chunks.aclose()

    def _refusal(self, known: Format | None) -> str:
        if not self._head:
            return refusal.empty().message
        what = f"a {known.title} picture" if known else describe(self._head[:HEAD])
        return refusal.unsupported(what, [BY_NAME[name].title for name in self._accepted]).message
