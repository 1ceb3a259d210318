"""Where a copy goes: another place than the storage, and none inside what that lists."""

from typing import Protocol
from uuid import uuid4

from storage.blobs import BlobInfo, Delete, Stat, Store
from storage.blobs.s3_place import is_s3, parse_s3
from storage.keys import AREAS, HIDDEN, VARIANTS
from storage.paths import folder_of


class Writable(Store, Delete, Protocol):
    """What leaving a trace needs of a storage."""


async def is_one_place(storage: Stat, other: Writable) -> bool:
    """Whether what is written into `other` is in `storage`, whatever their URLs. Raises: BlobsUnavailable."""
    trace = f"{VARIANTS}/{HIDDEN}trace-{uuid4().hex}"
    await other.store([(trace, b"")])
    try:
        return isinstance((await storage.stat([trace]))[trace], BlobInfo)
    finally:
        await other.delete(trace)


def holding_area(outer: str, inner: str) -> str | None:
    """The area of the storage at the URL `outer` in which the place `inner` lies, if it lies in one."""
    if is_s3(outer) != is_s3(inner):
        return None
    return _area_of_bucket(outer, inner) if is_s3(outer) else _area_of_folder(outer, inner)


def _area_of_folder(outer: str, inner: str) -> str | None:
    place = folder_of(inner).resolve()
    areas = {area: (folder_of(outer) / area).resolve() for area in AREAS}
    return next((area for area, path in areas.items() if place.is_relative_to(path)), None)


def _area_of_bucket(outer: str, inner: str) -> str | None:
    ours, theirs = parse_s3(outer), parse_s3(inner)
    if (ours.bucket, ours.endpoint) != (theirs.bucket, theirs.endpoint):
        return None
    below = f"{ours.prefix}/" if ours.prefix else ""
    area = theirs.prefix.removeprefix(below).partition("/")[0]
    return area if theirs.prefix.startswith(below) and area in AREAS else None
