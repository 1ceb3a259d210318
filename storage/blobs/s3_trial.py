"""What a bucket lets this program do, found out by trying it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from uuid import uuid4

from storage.blobs.bucket import CREATE, OVERWRITE, AlreadyThere, Bucket
from storage.errors import BlobChanged, BlobForbidden, BlobNotFound, BlobsUnavailable
from storage.keys import HIDDEN, UPLOADS, VARIANTS
from storage.tasks import together

_PROBE = f"{HIDDEN}probe"
_CONDITIONS = f"{HIDDEN}conditions"  # beside the marker, where nobody looks for files
_LISTING = (
    "the storage does not list, or does not say what is missing (403): without the right s3:ListBucket that "
    "and what may not be read are the same. Give it to the key or role of the worker"
)
_NO_CONDITIONS = (
    "the bucket ignores If-None-Match: two workers that start for the first time at the same moment may both "
    "take it, and one of them then stops"
)
_NO_CONDITIONAL_DELETE = (
    "the bucket ignores If-Match of DELETE: an original that an app puts there at the moment in which the "
    "one before is moved to the trash is removed with it"
)
_NO_E_TAG = f'"{"0" * 32}"'


class WriteState:
    """Whether writes work: what is refused to one is refused to all, unlike the reading of one object."""

    def __init__(self) -> None:
        self.work = False  # the last one was done; where not, a probe writes

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A write. Raises: BlobsUnavailable also where it is refused."""
        try:
            yield
        except BlobForbidden as error:
            self.work = False
            raise BlobsUnavailable(str(error)) from error
        except BlobsUnavailable:
            self.work = False
            raise
        self.work = True


async def write_a_little(bucket: Bucket, area: str) -> None:
    """Write an object in that area, and remove it. Raises: BlobForbidden, BlobsUnavailable."""
    await bucket.put(f"{area}/{_PROBE}", b"", {}, OVERWRITE)
    await bucket.delete(f"{area}/{_PROBE}")


async def check_listing(bucket: Bucket) -> None:
    """Raises: BlobsUnavailable where a listing does not show what was just written."""
    name = f"{_PROBE}-{uuid4().hex}"  # nobody else removes it
    await bucket.put(name, b"", {}, OVERWRITE)
    try:
        is_shown = await bucket.shows(name)
    finally:
        await bucket.delete(name)
    if not is_shown:
        raise BlobsUnavailable("the storage failed at a listing: it does not show what was just written")


async def check_right_to_list(bucket: Bucket) -> None:
    """Raises: BlobsUnavailable where the bucket does not list, or does not say what is missing."""
    try:
        # Not every server keeps to itself what is missing from whoever may not list.
        await together(*map(bucket.check_listing, ("", UPLOADS, VARIANTS)))
        await bucket.head(f"{VARIANTS}/{HIDDEN}{uuid4().hex}")
    except BlobForbidden as error:
        raise BlobsUnavailable(_LISTING) from error
    except BlobNotFound:
        pass


async def ignored_conditions(bucket: Bucket) -> Sequence[str]:
    """What the bucket does in any case though it was told when, in words.

    The object that shows it stays: of many workers that start at once, none takes it away from another. That
    it is there already was said on the condition, even where only the answer to the first try was lost.
    """
    lacks = []
    with suppress(AlreadyThere):
        await bucket.put(_CONDITIONS, b"", {}, CREATE)
        await bucket.put(_CONDITIONS, b"", {}, CREATE)
        lacks.append(_NO_CONDITIONS)
    with suppress(BlobChanged, BlobNotFound):
        await bucket.delete(_CONDITIONS, _NO_E_TAG)
        lacks.append(_NO_CONDITIONAL_DELETE)
    return lacks
