"""The bucket, as `media doctor` finds it."""

from collections.abc import Sequence
from functools import partial

from storage.blobs import Storage
from storage.blobs.opening import open_blobs
from storage.blobs.s3_place import parse_s3
from storage.catalog.opening import Catalog
from storage.errors import BlobsAway, BlobsUnavailable, BlobsUnfit, RootMismatch, StorageError
from storage.keys import MARKER
from storage.threads import in_thread
from worker.findings import Finding
from worker.settings import Settings
from worker.stores import NO_CATALOG

_WHAT = "Storage"
_WRONG = "Correct MEDIA_STORAGE_URL, MEDIA_S3_ENDPOINT or MEDIA_CATALOG_URL."
_AWAY = "Check MEDIA_S3_ENDPOINT, and that its server runs and can be reached from here."
_UNFIT = "Correct the variables AWS_* or MEDIA_S3_ENDPOINT."
_REFUSED = (
    "Check AWS_REGION, and the key or role that AWS_* name: it takes the rights s3:GetObject, s3:PutObject, "
    "s3:DeleteObject and s3:ListBucket."
)
_TAGS = "Tag no original, and nothing of the worker's, as the rule says."
_RULE = "Change the rule, or its prefix: only the worker knows which files are needed."


async def check_bucket(settings: Settings, catalog: Catalog | None) -> Sequence[Finding]:
    """Whether the bucket is there, belongs to the catalog, takes objects, and keeps them."""
    try:
        async with open_blobs(settings.storage_url, create=False) as blobs:
            if catalog is not None and not catalog.is_new:
                await blobs.bind(catalog.id, catalog_is_new=False)
            elif owner := await blobs.catalog_id():
                detail = f"{settings.storage} has a {MARKER}, of the catalog {owner}, which is not here"
                return [Finding(_WHAT, "error", detail, NO_CATALOG), *await _check_use(settings, blobs)]
            found = Finding(_WHAT, "ok", f"{settings.storage}{_hosts(settings)}")
            return [found, *await _check_use(settings, blobs)]
    except RootMismatch as error:
        return [Finding(_WHAT, "error", str(error), _WRONG)]
    except StorageError as error:
        return [Finding(_WHAT, "error", str(error), _advice(error))]


async def check_use(settings: Settings) -> Sequence[Finding]:
    """Whether objects can be written and listed, and are kept, whosever they are."""
    try:
        async with open_blobs(settings.storage_url, create=False) as blobs:
            return await _check_use(settings, blobs)
    except StorageError as error:
        return [Finding(_WHAT, "error", str(error), _advice(error))]


def _advice(error: StorageError) -> str:
    match error:
        case BlobsAway():
            return _AWAY
        case BlobsUnfit():
            return _UNFIT
    return _REFUSED


async def _check_use(settings: Settings, blobs: Storage) -> Sequence[Finding]:
    try:
        lacks = await blobs.find_lacks()
    except BlobsUnavailable as error:
        return [Finding("Writing", "error", str(error), _advice(error))]
    return [
        Finding("Writing", "ok", "an object was written and removed, and what is there is listed"),
        *(Finding("Bucket", "warning", lack, "Use another server if that matters.") for lack in lacks),
        *await _check_rules(settings),
    ]


async def _check_rules(settings: Settings) -> Sequence[Finding]:
    from storage.blobs.lifecycle import find_harm, read_rules  # an extra, which a bucket alone needs

    place = parse_s3(settings.storage_url)
    try:
        rules = await in_thread(read_rules, place)
    except BlobsUnavailable as error:
        advice = "Give the right s3:GetLifecycleConfiguration to whoever runs this, or look at them yourself."
        return [Finding("Lifecycle", "warning", str(error), advice)]
    harm_of = partial(find_harm, rules, place.prefix, settings.retention, settings.max_source_bytes)
    found = [Finding("Lifecycle", "error", what, _RULE) for what in harm_of()]
    found += [
        Finding("Lifecycle", "warning", f"{what}, if it is tagged", _TAGS) for what in harm_of(by_tags=True)
    ]
    return found or [Finding("Lifecycle", "ok", "no rule deletes or archives files that are needed")]


def _hosts(settings: Settings) -> str:
    if not settings.catalog_url.startswith("sqlite"):
        return ""
    return ", described by a catalog in a file: for the workers of one host"
