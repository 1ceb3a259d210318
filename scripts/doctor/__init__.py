"""`media doctor`: checks everything that a worker needs, and says what to do about what is wrong."""

import os
import platform
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version

from scripts.doctor.broker import check_redis
from scripts.doctor.copies import check_copies
from scripts.doctor.decoders import check_decoders, check_limits
from scripts.doctor.face import check_http
from scripts.doctor.rows import check_catalog
from scripts.terminal import AsJson, output, print_json, run, safe
from worker.env_files import EnvFile, find_env_files
from worker.findings import Finding, inspect_recipes
from worker.settings import Settings, unknown_variables
from worker.tracing import inspect_traces

_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


def command(as_json: AsJson = False) -> None:
    """Check Redis, catalog, storage root, decoders and limits."""

    async def body(settings: Settings) -> int:
        findings = []
        async for finding in examine(settings):
            findings.append(finding)
            if not as_json:
                _print(finding)
        if as_json:
            print_json([vars(finding) for finding in findings])
        return 1 if any(finding.level == "error" for finding in findings) else 0

    run(body, prints_files=True)


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
        *await check_decoders(settings),
    ):
        yield finding
    for finding in (
        *check_limits(settings),
        inspect_recipes(settings),
        *inspect_traces(settings),
        *_variables(),
    ):
        yield finding


def _variables() -> Iterator[Finding]:
    yield from map(inspect_env_file, find_env_files())
    for unknown, nearest in unknown_variables().items():
        advice = f"Did you mean {nearest}?" if nearest else "The README lists them all."
        yield Finding("Settings", "warning", f"there is no setting {unknown}", advice)


def inspect_env_file(file: EnvFile) -> Finding:
    """Whether a file of variables is read, and keeps its password."""
    if file.problem:
        advice = f"Let the user {os.geteuid()} read it, or set its variables in the environment."
        return Finding("Settings", "warning", f"{file.path} cannot be read ({file.problem})", advice)
    if file.shows_a_password:
        detail = f"everybody on this machine can read the password in {file.path}"
        return Finding("Settings", "warning", detail, f"chmod o-r {file.path}")
    return Finding("Settings", "ok", f"read from {file.path}, unless the environment sets them")


def _print(finding: Finding) -> None:
    color = _COLORS[finding.level]
    output.print(
        f"[{color}]{finding.level:>7}[/{color}]  [bold]{finding.what}[/bold]: {safe(finding.detail)}"
    )
    if finding.advice:
        output.print(f"         {safe(finding.advice)}")
