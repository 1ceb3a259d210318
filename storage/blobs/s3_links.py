"""Links to objects of a bucket, which open them for a while to whoever has such a link."""

from datetime import timedelta

import obstore

from storage.blobs.bucket import answered
from storage.blobs.s3_client import open_store
from storage.blobs.s3_place import S3Place
from storage.keys import segments

LONGEST_S = 7 * 24 * 3600  # that S3 takes


class S3Links:
    """Presigned URLs of one place. No request is made for them, but perhaps one for the credentials."""

    def __init__(self, place: S3Place) -> None:
        self._place = place
        self._store = open_store(place)

    async def sign(self, key: str, seconds: int) -> str:
        segments(key)
        lasting = timedelta(seconds=max(1, min(seconds, LONGEST_S)))
        with answered(key, self._place):
            return await obstore.sign_async(self._store, "GET", key, lasting)
