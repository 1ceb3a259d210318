"""Originals come back from a backup, and nothing that an app writes meanwhile is replaced."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

from storage.backups.returning import give_back
from storage.backups.versions import open_versions
from storage.blobs.local import LocalBlobs
from storage.catalog.opening import Catalog

KEYS = [f"uploads/{number:02}.jpg" for number in range(9)]  # one more than are copied at once
KEPT, NEWER = b"of the backup", b"an app's newer one"


class FilledBlobs(LocalBlobs):
    """Files beside which an app writes, as soon as one has come back."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    async def put(self, key: str, chunks: AsyncIterator[bytes], size: int | None = None) -> int:
        size = await super().put(key, chunks)
        self.meanwhile()
        return size


async def test_an_original_that_an_app_writes_while_others_come_back_stays(
    catalog: Catalog, local_blobs: LocalBlobs, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "backup/files/uploads").mkdir(parents=True)
    for key in KEYS:
        (tmp_path / "backup/files" / key).write_bytes(KEPT)
    blobs = FilledBlobs.__new__(FilledBlobs)
    vars(blobs).update(vars(local_blobs), meanwhile=lambda: (root / KEYS[-1]).write_bytes(NEWER))

    async with open_versions(tmp_path / "backup") as versions:
        [step] = [step async for step in give_back(catalog, blobs, versions, frozenset(), 0)]

    assert (root / KEYS[-1]).read_bytes() == NEWER
    assert (step.copied, step.same, step.unknown) == (8, 1, 8)
