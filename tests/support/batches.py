"""What batches are worked on with in tests: catalog, blobs and sandbox, put together as a worker does."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from pipelines.accounts import Accounts
from pipelines.batch import BatchContext, Classify
from pipelines.commits import Committer
from pipelines.errors import DecoderUnavailable
from pipelines.outage import Outage
from pipelines.poison import PoisonList
from pipelines.recipe import BUILT_IN, DEFAULT, Recipe, Recipes
from pipelines.sandbox import Sandbox
from pipelines.slots import Slots
from pipelines.upload import Made, make_variants
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, Message, StreamId, UploadRequested
from storage.catalog.tables import PARKED
from tests.support.blobs import is_there, listed
from tests.support.catalogs import commit, dispatch, take
from worker.retry import classify


def batch_context(
    catalog: Catalog,
    blobs: Storage,
    sandbox: Sandbox,
    *,
    holder: str = "worker",
    recipes: Recipes = BUILT_IN,
    may_delete_originals: bool = False,
    classified_by: Classify | None = None,
    on_committed: Callable[[Sequence[Message]], None] = lambda _messages: None,
    slots: int = 4,
    share: int | None = None,
    accounts: Accounts | None = None,
) -> BatchContext:
    """A context of these parts, which stops when its event is set."""
    accounts = accounts or Accounts()
    places = Slots(slots, share=share, accounts=accounts)
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
        accounts=accounts,
    )


async def on_one_job(catalog: Catalog, ids: Sequence[UUID]) -> str:
    """Put uploads on one job."""
    stalled = [upload for upload in await catalog.requeuer.overdue(-1000, 10_000) if upload.id in ids]
    await catalog.requeuer.requeue_stalled(stalled)
    [job_id] = await dispatch(catalog)
    return job_id


class Uploads:
    """Pictures that an app has put into storage and announced."""

    def __init__(self, catalog: Catalog, blobs: Storage, root: Path) -> None:
        self.catalog = catalog
        self.blobs = blobs
        self._root = root
        self._ms = 0

    async def put(self, name: str, content: bytes, *, recipe: str = "default") -> UUID:
        """Store the picture under that name and announce it; returns its id."""
        await self.store(name, content)
        return await self.announce(name, recipe=recipe)

    async def store(self, name: str, content: bytes) -> None:
        """Only the picture: no event."""
        await self.blobs.store([(f"uploads/{name}", content)])

    async def announce(self, name: str, *, recipe: str = "default") -> UUID:
        """Only the event, about whatever lies there."""
        self._ms += 1
        upload_id = uuid5(NAMESPACE_URL, f"media:uploads/{name}")
        await take(self.catalog, UploadRequested(StreamId(self._ms), upload_id, f"uploads/{name}", recipe))
        return upload_id

    def path(self, name: str) -> Path:
        """Where its file is, `on_files`."""
        return self._root / "uploads" / name

    async def claim(self, name: str, holder: str = "worker") -> Claim:
        """The right to the upload's next outcome."""
        upload_id = uuid5(NAMESPACE_URL, f"media:uploads/{name}")
        claimed = await self.catalog.claims.claim(upload_id, await self.job_id(upload_id), holder)
        assert claimed is not None
        return claimed

    async def job_id(self, upload_id: UUID) -> str:
        """The job of the upload; one that is parked has none, which is called so as well."""
        stalled = await self.catalog.requeuer.overdue(-1000, 10_000)
        return next((upload.job_id for upload in stalled if upload.id == upload_id), PARKED)

    async def is_there(self, name: str) -> bool:
        """Whether the original is there."""
        return await is_there(self.blobs, f"uploads/{name}")

    async def variants(self) -> dict[str, str]:
        """Every published blob by its key, and the digest of its bytes."""
        keys = await listed(self.blobs, "variants")
        return {key: sha256(await self.blobs.get(key)).hexdigest() for key in keys}

    def staged(self) -> list[Path]:
        """Files that were staged and are still there, `on_files`."""
        return [path for path in self._root.glob("staging/*/*") if not path.is_dir()]


class Pipeline:
    """Makes the variants of one upload after another, and commits them."""

    def __init__(self, uploads: Uploads, sandbox: Sandbox) -> None:
        self.uploads, self.sandbox = uploads, sandbox
        self.catalog, self.blobs = uploads.catalog, uploads.blobs
        self.poison = PoisonList(self.catalog.poison, "test")

    async def make(self, name: str, recipe: Recipe = DEFAULT) -> Made:
        """Work on what was announced."""
        claim = await self.uploads.claim(name)
        made = await self.render(claim, recipe)
        await commit(self.catalog, made.outcome)
        return made

    async def render(self, claim: Claim, recipe: Recipe = DEFAULT, *, may_decode: bool = True) -> Made:
        """Work on a claimed upload, and commit nothing."""
        holds = self.catalog.claims.holds
        context = claim, recipe, self.blobs, self.sandbox, self.poison, holds
        return await make_variants(*context, may_decode=may_decode)

    async def put(self, name: str, content: bytes) -> Made:
        """Store a picture, announce it, and work on it."""
        await self.uploads.put(name, content)
        return await self.make(name)

    async def again(self, name: str, recipe: Recipe = DEFAULT) -> Made:
        """Announce what is there, and work on it."""
        await self.uploads.announce(name)
        return await self.make(name, recipe)
