"""Links to variants: plain ones for ever, or signed ones that expire."""

import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote, urlsplit
from uuid import UUID

_EXPIRES = re.compile(r"[1-9][0-9]{0,11}")
SIGNED_FOR_S = 3600  # at least; up to twice as long, so that a page shown again has the same links


@dataclass(frozen=True)
class Links:
    """Where variants are found; signed with `secret`, if there is one."""

    base: str
    secret: str = field(default="", repr=False)
    clock: Callable[[], float] = time.time

    def of(self, key: str) -> str:
        """The link to the variant under that key."""
        url = f"{self.base}/files/{quote(key)}"
        if not self.secret:
            return url
        expires = (int(self.clock()) // SIGNED_FOR_S + 2) * SIGNED_FOR_S
        return f"{url}?expires={expires}&signature={self._signature(key, expires)}"

    def of_upload(self, upload_id: UUID) -> str:
        """The path of an upload, on whichever host was asked: `base` may be a CDN that has files alone."""
        return f"{urlsplit(self.base).path}/v1/uploads/{upload_id}"

    def left_s(self, key: str, expires: str, signature: str) -> int | None:
        """For how many whole seconds that link counts yet, None where it is no signed one, or has expired."""
        if not self.secret or not _EXPIRES.fullmatch(expires):
            return None
        # The time is compared after the signature: nobody learns from an answer which part was wrong.
        if not hmac.compare_digest(signature.encode(), self._signature(key, int(expires)).encode()):
            return None
        left = int(expires) - self.clock()
        return int(left) if left > 0 else None

    def _signature(self, key: str, expires: int) -> str:
        signed = hmac.digest(self.secret.encode(), f"{key}\n{expires}".encode(), sha256)
        return urlsafe_b64encode(signed).decode().rstrip("=")
