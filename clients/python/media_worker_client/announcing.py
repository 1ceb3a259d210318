"""The verbs that only send an event, for whatever has `send`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from media_worker_client.events import UploadId, delete_event, upload_event


class Announcing(ABC):
    """What the client and the fake have in common: how uploads are announced, replaced and deleted."""

    @abstractmethod
    def send(self, event: Mapping[str, Any]) -> str:
        """Send an event as it is; returns its ID on the stream."""

    def announce(
        self,
        source: str,
        *,
        id: UploadId | None = None,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Say that there is an original under the key `source`; returns the upload's id.

        It may be said again at any time. Raises: ValueError for what a worker would refuse.
        """
        return self._announce(
            upload_event(
                source, id=id, recipe=recipe, metadata=metadata, owner=owner, traceparent=traceparent
            )
        )

    def replace(
        self,
        old: UploadId,
        source: str,
        *,
        id: UploadId | None = None,
        recipe: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        owner: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Announce an original that takes the place of the upload `old`, which stays served until this one
        is ready; returns the new upload's id.
        """
        return self._announce(
            upload_event(
                source,
                id=id,
                recipe=recipe,
                metadata=metadata,
                owner=owner,
                traceparent=traceparent,
                replaces=old,
            )
        )

    def delete(self, id: UploadId, *, original: bool = False, traceparent: str | None = None) -> None:
        """Delete an upload and its variants, with `original` what was uploaded, where that is allowed."""
        self.send(delete_event(id, original=original, traceparent=traceparent))

    def _announce(self, event: Mapping[str, Any]) -> str:
        self.send(event)
        return str(event["id"])
