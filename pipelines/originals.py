"""Originals by another spelling: the same file, whose name an app and a file system write differently."""

from collections.abc import Sequence

from storage.blobs import BlobInfo, Stat
from storage.catalog.sources import Sources
from storage.keys import spellings


async def announced_otherwise(originals: Sequence[BlobInfo], catalog: Sources, blobs: Stat) -> frozenset[str]:
    """The keys of those originals that some upload has under another spelling of the same name.

    Raises: StorageError.
    """
    by_form = {form: info for info in originals for form in spellings(info.key)}
    known = await catalog.known(by_form) if by_form else frozenset[str]()
    twins = await twins_of(by_form, known, blobs)
    return frozenset(by_form[form].key for form in twins)


async def twins_of(by_form: dict[str, BlobInfo], known: frozenset[str], blobs: Stat) -> Sequence[str]:
    """Those of the `known` forms under which the very same file is found; others have files of their own."""
    found = await blobs.stat(sorted(known)) if known else {}
    return [
        form
        for form, info in found.items()
        if isinstance(info, BlobInfo) and info.identity == by_form[form].identity
    ]


async def same_file_as(source: str, blobs: Stat) -> Sequence[str]:
    """The other spellings of `source` that lead to its file. Raises: StorageError."""
    forms = spellings(source)
    if not forms:
        return []
    own = (await blobs.stat([source]))[source]
    if not isinstance(own, BlobInfo):
        return []
    return await twins_of(dict.fromkeys(forms, own), frozenset(forms), blobs)
