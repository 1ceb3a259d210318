"""An installation at which `media serve` runs and nobody works: its catalog, its storage, its keys."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx

from storage.blobs.local import open_local
from storage.catalog.opening import open_catalog
from tests.support.face import FaceProcess
from tests.support.workplace import Workplace, database_on
from worker.http.keys import new_key

PATIENCE_S = 20.0
Bound = tuple[str | None, str | None]
"""The owner and the prefix that a key is bound to."""


def installed(home: Path, redis_url: str, migrated: Path, **settings: str) -> Workplace:
    """A workplace whose storage and catalog belong together, as a first worker leaves them."""
    place = Workplace(home, database_on(redis_url), migrated, **settings)

    async def bind() -> None:
        async with open_catalog(catalog_url(place)) as catalog, open_local(place.root, create=True) as blobs:
            await blobs.bind(catalog.id, catalog_is_new=True)
            await catalog.database.mark_bound()

    asyncio.run(bind())
    return place


def catalog_url(place: Workplace) -> str:
    """Where its catalog is."""
    return f"sqlite+aiosqlite:///{place.catalog}"


def keys_at(place: Workplace, bounds: Mapping[str, Bound]) -> dict[str, str]:
    """The secret of a new key that reads, for each name."""
    made = {name: new_key(name, ["read"], *bound, 0) for name, bound in bounds.items()}

    async def keep() -> None:
        async with open_catalog(catalog_url(place)) as catalog:
            for _, key in made.values():
                assert await catalog.http_keys.add(key)

    asyncio.run(keep())
    return {name: secret for name, (secret, _) in made.items()}


def client_of(face: FaceProcess, secret: str = "") -> httpx.AsyncClient:
    """A client of that process, with a key or a token if there is one."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return httpx.AsyncClient(base_url=face.url, headers=headers, timeout=PATIENCE_S)
