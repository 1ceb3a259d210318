"""What fails in tests: uploads that have failed or wait for another try, and events that were refused."""

from uuid import UUID, uuid4

from storage.catalog.opening import Catalog
from storage.catalog.records import DeadLetter, StreamId
from tests.support.catalogs import claim, commit, failed, postponed, take, upload_event
from tests.support.face import OpenFace

FIELDLESS = "the entry has no field named event"
"""The reason of a dead letter whose entry had no such field, as catalogs of all versions have it."""


async def break_one(catalog: Catalog, folder: str = "2026", at: int = 1) -> UUID:
    """An upload below a folder that has failed."""
    upload_id = uuid4()
    await take(catalog, upload_event(at, upload_id, f"uploads/{folder}/{upload_id}.jpg"))
    await commit(catalog, failed(await claim(catalog, upload_id)))
    return upload_id


async def refuse(
    catalog: Catalog, *bodies: bytes, code: str = "invalid_event", reason: str = "refused"
) -> list[int]:
    """The numbers of dead letters with these bytes, the latest first."""
    letters = [
        DeadLetter(f"{at}-0", code, reason, body, position=StreamId(at, 0))
        for at, body in enumerate(bodies, 1)
    ]
    await catalog.intake.take([], letters)
    return [letter.id for letter in await catalog.dead_letters.newest(len(bodies))]


async def put_off(catalog: Catalog, folder: str, at: int) -> UUID:
    """An upload below a folder that waits for another try."""
    upload_id = uuid4()
    await take(catalog, upload_event(at, upload_id, f"uploads/{folder}/{upload_id}.jpg"))
    await commit(catalog, postponed(await claim(catalog, upload_id)))
    return upload_id


async def entries(opened: OpenFace) -> list[bytes]:
    """What waits on the stream."""
    queue = opened.face.queue
    return [fields[b"event"] for _, fields in await queue.redis.xrange(queue.stream.name)]
