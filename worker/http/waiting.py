"""Waiting for what becomes of an upload."""

import time
from uuid import UUID

from storage.catalog.records import WAITING, Upload
from worker.http.face import Face


async def settled(face: Face, upload_id: UUID, within_s: float) -> Upload | None:
    """The upload as soon as nothing is to be done for it, or as it is once the time is over.

    None: no worker has taken its event yet. Raises: CatalogUnavailable.
    """
    until = time.monotonic() + within_s
    upload = await face.reader.upload(upload_id)
    while upload is None or upload.state in WAITING:
        left = until - time.monotonic()
        if left <= 0 or face.stopping.is_set() or not await face.tail.news(left):
            return await face.reader.upload(upload_id)
        upload = await face.reader.upload(upload_id)
    return upload
