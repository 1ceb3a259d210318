"""`python -m bench.writer JOB SECONDS SIZE`: a process that commits outcomes in groups, as a worker does.

The catalog is `MEDIA_CATALOG_URL`. It says "ready" once it knows its claims, begins at a line of standard
input, and says how many groups it has committed in how many seconds, and how many CPU seconds that took.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid5

from sqlalchemy import select

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import Claim, Original, Ready, StoredVariant
from storage.catalog.rows import to_upload
from storage.catalog.tables import uploads
from storage.keys import variant_key

_NAMES = {"large": 1920, "medium": 800, "thumb": 150}


async def main(job_id: str, seconds: float, size: int) -> None:
    """Commit groups of that size until the time is over, or nothing is left."""
    async with open_catalog(os.environ["MEDIA_CATALOG_URL"], create=False) as catalog:
        groups = list(_groups(await _claims(catalog, job_id), size))
        await catalog.database.check_writable()  # a connection, and its first statements
        await asyncio.to_thread(_wait_for_go)
        began, cpu, done = time.perf_counter(), time.process_time(), 0
        for group in groups:
            committed = await catalog.claims.commit(group)
            if any(one.message is None for one in committed):
                raise AssertionError("a claim did not hold")
            done += 1
            if time.perf_counter() - began > seconds:
                break
        took = time.perf_counter() - began
        sys.stdout.write(f"{done} {took} {time.process_time() - cpu}\n")


def _wait_for_go() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


async def _claims(catalog: Catalog, job_id: str) -> Sequence[Claim]:
    query = select(uploads).where(uploads.c.job_id == job_id).order_by(uploads.c.number)
    async with catalog.database.reading(patient=True) as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [Claim(to_upload(dict(row), ()), row["claim"], row["generation"], 0) for row in rows]


def _groups(claims: Sequence[Claim], size: int) -> Iterator[Sequence[Ready]]:
    for start in range(0, len(claims), size):
        yield [_ready(claim) for claim in claims[start : start + size]]


def _ready(claim: Claim) -> Ready:
    made = [_variant(claim.upload.id, name, width) for name, width in _NAMES.items()]
    return Ready(claim, Original("1:2:3:4:5", "0" * 64, 2_000_000, "jpeg", 4000, 3000, "#808080"), made)


def _variant(upload_id: UUID, name: str, width: int) -> StoredVariant:
    key = variant_key(uuid5(upload_id, name), "jpeg")
    return StoredVariant(name, key, width, width * 3 // 4, width * 100, "0" * 64)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
