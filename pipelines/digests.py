"""The SHA-256 of a file's content."""

import hashlib
import os

_CHUNK = 1024 * 1024


def content_sha256(fd: int) -> str:
    """The SHA-256 of the whole file at a descriptor, wherever that stands."""
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(fd, _CHUNK, at):
        digest.update(chunk)
        at += len(chunk)
    return digest.hexdigest()
