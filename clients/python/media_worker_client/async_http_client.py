"""The client over HTTP for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from media_worker_client.events import UploadId
from media_worker_client.http_client import HttpMediaClient, Picture
from media_worker_client.messages import Message, Upload


class AsyncHttpMediaClient:
    """`HttpMediaClient` for asyncio: the same verbs, which are awaited while a thread does the work."""

    def __init__(
        self, url: str, key: str | None = None, *, secret: str | None = None, timeout: float = 60.0
    ) -> None:
        """As of `HttpMediaClient`."""
        self._client = HttpMediaClient(url, key, secret=secret, timeout=timeout)

    async def upload(
        self,
        picture: Picture,
        *,
        content_type: str | None = None,
        filename: str | None = None,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
        idempotency_key: str | None = None,
        wait: float = 0,
    ) -> Upload:
        """Upload a picture: its bytes, the path of its file, or a file that is open."""
        return await asyncio.to_thread(
            self._client.upload,
            picture,
            content_type=content_type,
            filename=filename,
            recipe=recipe,
            metadata=metadata,
            owner=owner,
            idempotency_key=idempotency_key,
            wait=wait,
        )

    async def status(self, id: UploadId, *, wait: float = 0) -> Upload | None:
        """The upload as it is, or within `wait` seconds its outcome; None for an unknown id."""
        return await asyncio.to_thread(self._client.status, id, wait=wait)

    async def delete(self, id: UploadId, *, original: bool = False) -> None:
        """Delete an upload, with `original` also what was uploaded."""
        await asyncio.to_thread(self._client.delete, id, original=original)

    async def token(
        self,
        *,
        max_bytes: int | None = None,
        expires_in: int = 600,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        count: int | None = None,
        owner: str | None = None,
    ) -> dict[str, Any]:
        """A token with which a browser uploads: `token`, `expires` and `url`."""
        return await asyncio.to_thread(
            self._client.token,
            max_bytes=max_bytes,
            expires_in=expires_in,
            recipe=recipe,
            metadata=metadata,
            count=count,
            owner=owner,
        )

    async def limits(self) -> dict[str, Any]:
        """What uploads may be."""
        return await asyncio.to_thread(self._client.limits)

    async def events(self, since: int = 0) -> AsyncIterator[Message]:
        """The messages after that `seq`, up to now."""
        found = self._client.events(since)
        while (message := await asyncio.to_thread(next, found, None)) is not None:
            yield message
