"""A whole catalog, opened. Whoever needs only a part of it imports that part, which is faster."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from storage.catalog.address import Address
from storage.catalog.backfill import Backfill
from storage.catalog.claims import Claims
from storage.catalog.database import BUSY_TIMEOUT_S, Database, identity, open_database
from storage.catalog.dead_letters import DeadLetters
from storage.catalog.epochs import Epochs
from storage.catalog.failures import Failures
from storage.catalog.http_keys import HttpKeys
from storage.catalog.intake import EventStore
from storage.catalog.kv import Checkpoint
from storage.catalog.outbox import Outbox
from storage.catalog.owner_costs import OwnerCosts
from storage.catalog.owner_uses import OwnerUses
from storage.catalog.parking import Parking
from storage.catalog.poison import Poison
from storage.catalog.questions import Questions
from storage.catalog.records import Domain
from storage.catalog.reports import Reports
from storage.catalog.requeuer import Requeuer
from storage.catalog.sources import Sources
from storage.catalog.starts import Starts
from storage.catalog.sweeps import Sweeps
from storage.catalog.tombstones import Tombstones
from storage.catalog.variant_names import VariantNames
from storage.catalog.webhooks import Webhooks
from storage.watch import NOBODY, CatalogWatch


@dataclass(frozen=True)
class Catalog:
    """One catalog, by what it can do; ask for the part you use."""

    id: str
    is_new: bool
    intake: EventStore
    epochs: Epochs
    claims: Claims
    outbox: Outbox
    questions: Questions
    starts: Starts
    dead_letters: DeadLetters
    failures: Failures
    backfill: Backfill
    requeuer: Requeuer
    parking: Parking
    reports: Reports
    sweeps: Sweeps
    poison: Poison
    sources: Sources
    http_keys: HttpKeys
    owner_costs: OwnerCosts
    owner_uses: OwnerUses
    tombstones: Tombstones
    variant_names: VariantNames
    webhooks: Webhooks
    database: Database

    def checkpoint(self, name: str) -> Checkpoint:
        """Where the progress of the work of that name is saved."""
        return Checkpoint(self.database, name)


@asynccontextmanager
async def open_catalog(
    where: Address | str,
    *,
    create: bool = True,
    migrate: bool = False,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    uploads_per_job: int = 100,
    domains: Sequence[Domain] = (),
    watch: CatalogWatch = NOBODY,
) -> AsyncIterator[Catalog]:
    """The catalog at that address, made first where `create` is true; owners of `domains` have own accounts.

    Only a worker may `migrate` one of an older schema: other workers may be at work on it.

    Raises: NoCatalog, CatalogUnavailable, CatalogTooNew, CatalogTooOld, CatalogObsolete.
    """
    async with open_database(
        where, create=create, migrate=migrate, busy_timeout_s=busy_timeout_s, watch=watch
    ) as database:
        catalog_id, is_new = await identity(database)
        yield Catalog(
            id=catalog_id,
            is_new=is_new,
            intake=EventStore(database.used_for("intake"), uploads_per_job, domains),
            epochs=Epochs(database.used_for("intake")),
            claims=Claims(database.used_for("claim"), database.used_for("commit"), domains),
            outbox=Outbox(database.used_for("outbox")),
            questions=Questions(database.used_for("intake")),
            starts=Starts(database.used_for("outbox")),
            dead_letters=DeadLetters(database),
            failures=Failures(database),
            backfill=Backfill(database),
            parking=Parking(database.used_for("intake")),
            requeuer=Requeuer(database.used_for("reconcile")),
            reports=Reports(database.used_for("report")),
            sweeps=Sweeps(database.used_for("sweep")),
            poison=Poison(database),
            sources=Sources(database),
            http_keys=HttpKeys(database),
            owner_costs=OwnerCosts(database),
            owner_uses=OwnerUses(database),
            tombstones=Tombstones(database),
            variant_names=VariantNames(database.used_for("report")),
            webhooks=Webhooks(database),
            database=database,
        )
