"""Uploads that were announced, before the catalog has them."""

from dataclasses import replace
from uuid import UUID

import orjson

from storage.catalog.records import State, Upload
from worker.http.documents import upload_of_event
from worker.http.face import Face
from worker.queue.announced import AnnouncedEvent


async def announced(face: Face, upload_id: UUID) -> Upload | None:
    """The upload as it will be once a worker has taken its event, or as it is where one just has or refused.

    Raises: QueueUnavailable, CatalogUnavailable: nobody can say then that it is not there.
    """
    event = await face.queue.announced.find(upload_id)
    if event is None:
        return None
    if event.body is None:  # a replica may not have it yet
        return await face.stores.catalog.reports.find(upload_id) or await _refused(face, event)
    return upload_of_event(orjson.loads(event.body), event.time_ms)


async def _refused(face: Face, event: AnnouncedEvent) -> Upload | None:
    """The upload whose event no worker took, with the reason. Raises: CatalogUnavailable."""
    letter = await face.stores.catalog.dead_letters.of_entry(event.entry_id)
    if letter is None:
        return None
    upload = upload_of_event(orjson.loads(letter.body), event.time_ms)
    return replace(upload, state=State.FAILED, error_code=letter.code, error_message=letter.message)
