"""The order in which `media doctor` checks everything that a worker needs."""

import platform
from collections.abc import AsyncIterator
from importlib.metadata import version

from worker.doctor.broker import check_redis
from worker.doctor.copies import check_copies
from worker.doctor.decoders import check_decoders, check_limits
from worker.doctor.face import check_http
from worker.doctor.recipes import check_recipes
from worker.doctor.rows import check_catalog
from worker.doctor.variables import check_variables
from worker.doctor.webhooks import check_webhooks
from worker.findings import Finding
from worker.settings import Settings
from worker.tracing import inspect_traces


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Check each thing in turn; a broken one does not keep the others from being checked."""
    yield Finding(
        "Version", "ok", f"media-worker {version('media-worker')}, Python {platform.python_version()}"
    )
    redis = await check_redis(settings)
    for finding in redis.findings:
        yield finding
    async for finding in check_catalog(settings, redis):
        yield finding
    for finding in (
        *await check_copies(settings),
        *await check_http(settings),
        *await check_webhooks(settings),
        *await check_decoders(settings),
    ):
        yield finding
    for finding in (
        *check_limits(settings),
        await check_recipes(settings),
        *inspect_traces(settings),
        *check_variables(),
    ):
        yield finding
