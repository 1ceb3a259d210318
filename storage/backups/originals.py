"""The originals beside the copies of a catalog: new ones are added, by hard links where possible."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from storage.backups.folder import FILES
from storage.backups.versions import REPLACED, VersionKeeper
from storage.blobs import Storage
from storage.blobs.copying import CLOCKS_DIFFER_S, BlobCopy, CopyStep
from storage.blobs.local import LocalBlobs, open_local
from storage.blobs.owners import backed_up
from storage.errors import CopyRefused
from storage.keys import UPLOADS

_ONE_CLOCK_S = 1.0


async def add_originals(
    blobs: Storage,
    folder: Path,
    catalog: str,
    now_ms: Callable[[], int],
    on_misnamed: Callable[[str], object] = lambda _: None,
) -> AsyncGenerator[CopyStep, None]:
    """Add the originals of that catalog that `folder` lacks, or has others of; yields step by step.

    Nothing leaves the folder: what is replaced is kept as an earlier version, under the time by `now_ms`.
    Each file is there whole or not at all. Copies are for their owner alone to read; hard links have the
    rights of the originals.

    Raises: CopyRefused, BlobsUnavailable, StorageFull, RootMismatch.
    """
    async with (
        open_local(folder / FILES, create=True, private=True) as target,
        open_local(folder / REPLACED, create=True, private=True) as replaced,
    ):
        owner = await target.catalog_id()
        if owner not in (None, backed_up(catalog)):
            raise CopyRefused(f"{folder / FILES} has the originals of another catalog: choose another folder")
        if owner is None:
            await target.rebind(backed_up(catalog))
        linked = target.linker(blobs) if isinstance(blobs, LocalBlobs) else None
        copying = BlobCopy(
            blobs,
            target,
            areas=(UPLOADS,),
            noted=False,
            link=linked,
            replacing=VersionKeeper(target, replaced, now_ms).replacing,
            clocks_differ_s=_ONE_CLOCK_S if linked else CLOCKS_DIFFER_S,
        )
        async with aclosing(copying.copy(on_misnamed=on_misnamed)) as steps:
            async for step in steps:
                yield step
