"""Whose a bucket is: its marker says so, which every listing of the bucket must show, too."""

from contextlib import suppress

from storage.blobs.bucket import CREATE, OVERWRITE, AlreadyThere, Bucket
from storage.blobs.marker import marker_of, owner_in
from storage.blobs.owners import check_owner, tell_how_to_mark
from storage.blobs.s3_trial import WriteState
from storage.errors import BlobForbidden, BlobNotFound, BlobsUnavailable, RootMismatch
from storage.keys import MARKER


class S3Identity:
    """The marker of a bucket, and the catalog that the bucket is bound to."""

    def __init__(self, bucket: Bucket, writes: WriteState) -> None:
        self._bucket = bucket
        self._writes = writes
        self._catalog_id: str | None = None

    async def owner(self) -> str | None:
        """What the marker says; None: there is none. Raises: BlobsUnavailable, RootMismatch."""
        try:
            answer = await self._bucket.get(MARKER)
            return owner_in(await answer.whole())
        except BlobNotFound:
            return None
        except BlobForbidden as error:  # by a wrong role, or because it is not there
            raise BlobsUnavailable(str(error)) from error
        except RootMismatch as error:
            if isinstance(error.__cause__, ValueError):  # another server's answer
                raise BlobsUnavailable(f"the storage failed at {MARKER}: {error}") from error
            raise

    async def check(self) -> str | None:
        """`owner`, which also raises RootMismatch where it is not the one that the bucket is bound to."""
        found = await self.owner()
        if self._catalog_id is not None:
            self._check_owner(found, self._catalog_id)
        return found

    async def prove_listing(self) -> None:
        """Raises: BlobsUnavailable where a listing does not show the marker that is there, RootMismatch."""
        if await self.check() is not None and not await self._bucket.shows(MARKER):
            raise BlobsUnavailable(f"the storage failed at a listing: it does not show {MARKER}")

    async def take(self, catalog_id: str) -> None:
        """Write the marker where there is none; who comes second changes nothing."""
        with self._writes.watched(), suppress(AlreadyThere):
            await self._bucket.put(MARKER, marker_of(catalog_id), {}, CREATE)

    async def bind(self, catalog_id: str) -> None:
        """From now on it must be that catalog's. Raises: RootMismatch where it is not."""
        self._check_owner(await self.owner(), catalog_id)
        self._catalog_id = catalog_id

    async def rebind(self, catalog_id: str) -> None:
        """Give the bucket to that catalog, whatever it belonged to."""
        with self._writes.watched():
            await self._bucket.put(MARKER, marker_of(catalog_id), {}, OVERWRITE)
        self._catalog_id = catalog_id

    def _check_owner(self, found: str | None, catalog_id: str) -> None:
        place = self._bucket.place
        if found is None:
            raise RootMismatch(
                f"{place} has no {MARKER}, but its catalog has described a storage before. Is it the wrong "
                "bucket or prefix, or the catalog another one's? If these are its files, restored without "
                f"the marker, {tell_how_to_mark(catalog_id, str(place))}"
            )
        check_owner(found, catalog_id, str(place))
