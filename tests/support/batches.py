"""What batches are worked on with in tests: catalog, blobs and sandbox, put together as a worker does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from pipelines.batch import BatchContext, Classify
from pipelines.commits import Committer
from pipelines.errors import DecoderUnavailable
from pipelines.outage import Outage
from pipelines.poison import PoisonList
from pipelines.recipe import BUILT_IN, Recipes
from pipelines.sandbox import Sandbox
from pipelines.slots import Slots
from storage.blobs.local import LocalBlobs
from storage.catalog import Catalog
from storage.catalog.records import Claim, Message, StreamId, UploadRequested
from tests.support.catalogs import take
from worker.retry import classify


def batch_context(
    catalog: Catalog,
    blobs: LocalBlobs,
    sandbox: Sandbox,
    *,
    holder: str = "worker",
    recipes: Recipes = BUILT_IN,
    may_delete_originals: bool = False,
    classified_by: Classify | None = None,
    on_committed: Callable[[Sequence[Message]], None] = lambda _messages: None,
    slots: int = 4,
) -> BatchContext:
    """A context of these parts, which stops when its event is set."""
    places = Slots(slots)
    return BatchContext(
        holder=holder,
        recipes=recipes,
        blobs=blobs,
        claims=catalog.claims,
        sandbox=sandbox,
        poison=PoisonList(catalog.poison, "test"),
        outage=Outage(blobs),
        decoder_outage=Outage(sandbox, DecoderUnavailable),
        committer=Committer(catalog.claims, expected=lambda: places.busy > 0, on_committed=on_committed),
        slots=places,
        classify=classified_by or partial(classify, max_attempts=8),
        may_delete_originals=may_delete_originals,
        stopping=asyncio.Event(),
    )


class Uploads:
    """Pictures that an app has put into storage and announced."""

    def __init__(self, catalog: Catalog, blobs: LocalBlobs, root: Path) -> None:
        self._catalog = catalog
        self.blobs = blobs
        self._root = root
        self._ms = 0

    async def put(self, name: str, content: bytes, *, recipe: str = "default") -> UUID:
        """Store the picture under that name and announce it; gives its id."""
        await self.blobs.put(f"uploads/{name}", _once(content))
        return await self.announce(name, recipe=recipe)

    async def announce(self, name: str, *, recipe: str = "default") -> UUID:
        """Only the event, about whatever lies there."""
        self._ms += 1
        upload_id = uuid5(NAMESPACE_URL, f"media:uploads/{name}")
        await take(self._catalog, UploadRequested(StreamId(self._ms), upload_id, f"uploads/{name}", recipe))
        return upload_id

    def path(self, name: str) -> Path:
        return self._root / "uploads" / name

    async def claim(self, name: str, holder: str = "worker") -> Claim:
        """The right to the upload's next outcome."""
        upload_id = uuid5(NAMESPACE_URL, f"media:uploads/{name}")
        claimed = await self._catalog.claims.claim(upload_id, await self.job_id(upload_id), holder)
        assert claimed is not None
        return claimed

    async def job_id(self, upload_id: UUID) -> str:
        """The job of the upload."""
        stalled = await self._catalog.requeuer.stalled(-1000, 10_000)
        return next(upload.job_id for upload in stalled if upload.id == upload_id)

    def variants(self) -> dict[str, str]:
        """Every published file by its key, and the digest of its bytes."""
        files = (path for path in self._root.glob("variants/**/*") if path.is_file())
        return {str(path.relative_to(self._root)): sha256(path.read_bytes()).hexdigest() for path in files}

    def staged(self) -> list[Path]:
        """Files that were staged and are still there."""
        return [path for path in self._root.glob("staging/*/*") if not path.is_dir()]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
