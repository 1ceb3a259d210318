"""What the doctor checks in `media serve`: nothing that takes long, and nothing that workers alone know."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from worker.doctor.broker import RedisReport, check_redis
from worker.doctor.copies import check_noted_copies
from worker.doctor.face import check_http
from worker.doctor.recipes import check_recipes
from worker.doctor.rows import check_catalog
from worker.doctor.variables import check_variables
from worker.doctor.webhooks import check_webhooks
from worker.findings import Finding
from worker.settings import Settings
from worker.tracing import inspect_collector

Findings = AsyncIterator[Finding]


def topics(settings: Settings) -> Mapping[str, Findings]:
    """What is checked, by its name; workers tell of their decoders and limits by themselves."""
    redis = asyncio.ensure_future(check_redis(settings, as_worker=False))
    return {
        "Redis": _check_redis(redis),
        "Catalog and storage": _check_catalog(settings, redis),
        "Backup": _check_copies(settings),
        "HTTP server": _check_http(settings),
        "Webhooks": _check_webhooks(settings),
        "Recipes and settings": _check_settings(settings),
        "Traces": _check_traces(settings),
    }


async def _check_redis(redis: asyncio.Future[RedisReport]) -> Findings:
    for finding in (await asyncio.shield(redis)).findings:
        yield finding


async def _check_catalog(settings: Settings, redis: asyncio.Future[RedisReport]) -> Findings:
    async for finding in check_catalog(settings, await asyncio.shield(redis), as_worker=False):
        yield finding


async def _check_copies(settings: Settings) -> Findings:
    for finding in await check_noted_copies(settings):
        yield finding


async def _check_http(settings: Settings) -> Findings:
    for finding in await check_http(settings):
        yield finding


async def _check_webhooks(settings: Settings) -> Findings:
    for finding in await check_webhooks(settings):
        yield finding


async def _check_settings(settings: Settings) -> Findings:
    for finding in check_variables():
        yield finding
    yield await check_recipes(settings)


async def _check_traces(settings: Settings) -> Findings:
    for finding in await asyncio.to_thread(inspect_collector, settings):
        yield finding
