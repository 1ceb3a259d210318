"""Waiting for what becomes of an upload."""

import time
from uuid import UUID

from storage.catalog.records import WAITING, Upload
from worker.http.face import Face

LONGEST_WAIT_S = 30


async def settled(face: Face, upload_id: UUID, within_s: float) -> Upload | None:
    """The upload as soon as nothing is to be done for it, or as it is once the time is over.

    It is read once, then after each message about it. None: no worker has taken its event yet.

    Raises: CatalogUnavailable.
    """
    until = time.monotonic() + within_s
    with face.tail.subscribed(upload_id) as subscription:  # first, or what comes after the look is missed
        upload = await face.reader.upload(upload_id)
        while upload is None or upload.state in WAITING:
            left = until - time.monotonic()
            if left <= 0 or face.stopping.is_set():
                break
            await subscription.news(left)
            upload = await face.reader.upload(upload_id)
    return upload
