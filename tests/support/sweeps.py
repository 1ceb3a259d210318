"""Short words for what the tests of the sweep do again and again: files, their rows, and who sweeps."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from pipelines.sweep.plan import Plan
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper
from storage.blobs import Storage, Store
from storage.catalog.opening import Catalog
from storage.catalog.records import Original, Ready, State, StoredVariant
from storage.keys import variant_key
from tests.support.catalogs import claim, commit, take, upload_event

GRACE_S = 3600.0
CONTENT = b"picture"


class Clock:
    """The time that a sweeper reads: the machine's, and what a test lets go by."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._stopped_at: float | None = None

    def __call__(self) -> float:
        return time.time() + self._ahead_s if self._stopped_at is None else self._stopped_at

    def hours_go_by(self, hours: float = 2) -> None:
        """Files that were made until now are that much older."""
        self._ahead_s += hours * 3600

    def stop_at(self, now: float) -> None:
        """It is that time (s since 1970) and stays so."""
        self._stopped_at = now


async def _nothing() -> None:
    pass


@dataclass(frozen=True)
class InstallationStub:
    """What a sweep meets: nothing is missing unless there is a `catalog`, and all is well unless said."""

    catalog: Catalog | None = None
    checked: Callable[[], Awaitable[None]] = _nothing
    counted: Callable[[], Awaitable[int | None]] = _nothing
    is_stopping: Callable[[], bool] = lambda: False

    async def check(self) -> None:
        await self.checked()

    async def requeue(self, upload_ids: Sequence[UUID]) -> frozenset[UUID]:
        assert self.catalog is not None, "nothing is missing here"
        await self.catalog.requeuer.requeue(upload_ids, State.READY)
        return frozenset()

    async def requeue_damaged(self, damaged: Mapping[str, str]) -> int:
        assert self.catalog is not None, "nothing is damaged here"
        return len(await self.catalog.requeuer.requeue_damaged(damaged))

    async def correct_totals(self) -> int | None:
        return await self.counted()


def new_key() -> str:
    """A key that no variant has yet."""
    return variant_key(uuid4(), "jpeg")


async def put(blobs: Store, key: str | None = None, content: bytes = CONTENT) -> str:
    """A file, published as a writer does it; returns its key."""
    key = key or new_key()
    await blobs.store([(key, content)])
    return key


async def recorded(catalog: Catalog, keys: Sequence[str], ms: int = 1, upload_id: UUID | None = None) -> UUID:
    """An upload that is ready with those variants."""
    upload_id = upload_id or uuid4()
    await take(catalog, upload_event(ms, upload_id, f"uploads/{upload_id}.jpg"))
    original = Original("stamp", "0" * 64, 3, "jpeg", 10, 10)
    made = [StoredVariant(f"v{at}", key, 10, 10, len(CONTENT), "f" * 64) for at, key in enumerate(keys)]
    await commit(catalog, Ready(await claim(catalog, upload_id), original, made))
    return upload_id


def sweeper_on(
    catalog: Catalog, blobs: Storage, grace_s: float = GRACE_S, retention_s: float = GRACE_S, **more: Any
) -> Sweeper:
    """Somebody who sweeps there, and queues what is missing."""
    more = {"installation": InstallationStub(catalog), "now": time.time, **more}
    return Sweeper(
        blobs=blobs, sweeps=catalog.sweeps, holder="me", grace_s=grace_s, retention_s=retention_s, **more
    )


async def planned(
    orphans: int, sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> tuple[Plan, Sequence[str]]:
    """A plan for so many orphans, old and beside an upload that is ready; and their keys."""
    await recorded(catalog, [await put(blobs)])
    keys = [await put(blobs) for _ in range(orphans)]
    clock.hours_go_by()
    return await make_plan(sweeper), keys


async def deleted_originals(count: int, blobs: Storage) -> None:
    """The originals of so many deleted uploads, in the trash."""
    for number in range(count):
        await put(blobs, f"trash/delete-{number}-1/uploads/cat.jpg")
