"""The Redis that the settings name, as `media doctor` finds it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from storage.catalog.database import open_to_read
from storage.catalog.opening import Catalog
from storage.catalog.parking import MOST_COUNTED, Parked, Parking
from storage.errors import StorageError
from worker.amounts import counted
from worker.degradation import long_wait
from worker.findings import Finding, inspect_redis
from worker.other_recipes import find_other_recipes
from worker.queue import Queue, QueueUnavailable, Refusal, open_queue
from worker.queue.refusals import of_another, refusal_of
from worker.settings import Settings

_TIMEOUT_S = 4  # of all answers together: a Redis may stop answering half-way
_PARKED_S = 2  # of them, to look into the catalog
_MESSAGES = 100  # that are compared with the catalog
_LATELY_MS = 24 * 60 * 60 * 1000  # the catalog keeps its messages for longer


@dataclass(frozen=True)
class RedisReport:
    """What Redis answered; without `answers` there is nothing to compare with the catalog."""

    findings: Sequence[Finding]
    answers: bool = False
    owner: str | None = None
    recent: Sequence[tuple[int, str | None] | None] = ()


NOT_ASKED = RedisReport(())


async def check_redis(settings: Settings, *, as_worker: bool = True) -> RedisReport:
    """Check the Redis once, and read what is to be compared with the catalog.

    Not `as_worker`, its user may have fewer rights than one needs.
    """
    refusal = None
    works = Finding("Redis", "ok", "answers")
    try:
        async with asyncio.timeout(_TIMEOUT_S), open_queue(settings) as queue:
            if as_worker:
                refusal = await queue.server.refusal()
                works = Finding("Redis", "ok", "answers, and allows everything that a worker needs")
            if refusal is not None and not refusal.transient:
                return RedisReport([refused(refusal)])
            findings = [refused(refusal) if refusal else works, *inspect_redis(await queue.server.info())]
            findings += [await check_workers(queue, settings), *await check_their_recipes(queue, settings)]
            owner = await queue.ownership.owner()
            recent = await queue.messages.recent(_MESSAGES, _LATELY_MS)
            return RedisReport(findings, answers=True, owner=owner, recent=recent)
    except (QueueUnavailable, TimeoutError) as error:
        if refusal := refusal or refusal_of(error):
            return RedisReport([refused(refusal)])
        reason = str(error) or f"some answers took longer than {_TIMEOUT_S} s"
        advice = "Start Redis, or correct MEDIA_REDIS_URL."
        return RedisReport([Finding("Redis", "error", f"does not answer: {reason}", advice)])


def refused(refusal: Refusal) -> Finding:
    """What Redis refuses."""
    return Finding("Redis", "error", refusal.what, refusal.remedy)


async def check_workers(queue: Queue, settings: Settings) -> Finding:
    """Whether workers are running where something waits for them, and what an unhealthy one reports."""
    workers = await queue.heartbeats.living()
    unhealthy = [worker for worker in workers if not worker.healthy]
    waits = await queue.waits()
    if not workers:
        parked = await _parked(settings)
        if parked.count or await queue.depth() or await queue.jobs.waiting():
            detail = f"none is running, and {waits}{_besides(parked)}"
            return Finding("Workers", "error", detail, "Start one: media worker. If one runs, see its log.")
        return Finding("Workers", "ok", f"none is running; {waits}")
    if unhealthy:
        detail = f"{len(unhealthy)} of {len(workers)} unhealthy: {unhealthy[0].detail}"
        return Finding("Workers", "error", detail, "See its log.")
    parked = await _parked(settings)
    if too_long := long_wait(max(await queue.oldest_age_s() or 0, parked.oldest_ms // 1000)):
        detail = f"{len(workers)} running, but {too_long}"
        return Finding("Workers", "warning", detail, "Start more of them, or see in their logs what is slow.")
    if degraded := [worker for worker in workers if worker.degraded]:
        detail = f"{len(degraded)} of {len(workers)} degraded: {'; '.join(degraded[0].degraded)}"
        return Finding("Workers", "warning", detail, "See docs/operations.md, Health.")
    return Finding("Workers", "ok", f"{len(workers)} running; {waits}{_besides(parked)}")


async def check_their_recipes(queue: Queue, settings: Settings) -> Sequence[Finding]:
    """That workers have other recipes than the file has by now, where some do."""
    others = find_other_recipes(await queue.heartbeats.reporting(), settings)
    return [Finding("Recipes of workers", "warning", others.detail, others.advice)] if others else []


async def _parked(settings: Settings) -> Parked:
    """What waits in the catalog for its owner's turn; nothing where it does not say so soon."""
    try:
        async with asyncio.timeout(_PARKED_S), open_to_read(settings.catalog) as database:
            return await Parking(database).all()
    except (StorageError, TimeoutError):
        return Parked(0, 0)  # what is wrong with the catalog is told where that is checked


def _besides(parked: Parked) -> str:
    at_least = "at least " if parked.count >= MOST_COUNTED else ""
    return f"; {at_least}{counted(parked.count, 'parked upload')}" if parked.count else ""


async def check_messages(settings: Settings, redis: RedisReport, catalog: Catalog) -> Sequence[Finding]:
    """Whether another catalog has sent some of the newest messages."""
    recent = redis.recent
    own = {
        (message.seq, str(message.id) if message.id else None)
        for message in await catalog.outbox.with_seqs([message[0] for message in recent if message])
    }
    others = [message for message in recent if message not in own]
    if not others:
        return []
    detail = f"{len(others)} of the newest {len(recent)} on {settings.events} are not this catalog's"
    advice = (
        "If another installation has the same MEDIA_EVENTS, apps receive each other's messages: give it "
        "another stream. If this catalog was restored or rebuilt today, this is no error."
    )
    return [Finding("Messages", "warning", detail, advice)]


def check_stream(
    settings: Settings, redis: RedisReport, catalog_id: str | None, root_of: str | None = None
) -> Sequence[Finding]:
    """Whether the stream belongs to this catalog, or to none yet. None: there is no catalog.

    Without one, stream and root (`root_of`) may belong to a lost catalog; `media rebuild` replaces it.
    """
    if not redis.answers:
        return []
    owner = redis.owner
    if catalog_id is None and owner is not None and owner == root_of:
        detail = "tied to the catalog of the storage root"
    elif owner in (None, catalog_id):
        detail = "tied to this catalog" if owner else "the first worker ties it to its catalog"
    else:
        refusal = of_another(settings.stream, owner or "", catalog_id or "(none yet)")
        return [Finding("Stream", "error", refusal.what, refusal.remedy)]
    return [Finding("Stream", "ok", f"{settings.stream}: {detail}")]
