"""Findings: what an operator should know of the Redis and of the settings, for the doctor and the log."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from pipelines.dropped_variants import DroppedVariant
from pipelines.encoding_time import slowest_s
from pipelines.formats import MIB
from pipelines.recipe import Recipes, dropped_from_default
from worker.amounts import counted
from worker.queue import LARGEST_REPLY, ServerInfo
from worker.settings import LEAST_MEMORY_MB, Settings

log = structlog.get_logger(__name__)

OLDEST_REDIS = (6, 2)
LARGEST_VALUE = 8 * MIB
AHEAD_MS = 5 * 60 * 1000  # further ahead than this a stream's IDs say nothing of how long its events wait
_NAMED = 5  # variants that recipes have dropped, and recipes that are gone
_EXTEND = 'To keep them: extends = "default" in its table [default]; to drop them: {first} = false there.'
_KEEP_TABLES = (
    'To keep them, put their tables back; extends = "default" brings those of the built-in recipe. To drop '
    "them on purpose, write NAME = false in the recipe's table. Uploads lose them as they are made again, by "
    "media reprocess --stale or a new event; the files stay for MEDIA_RETENTION."
)
_KEEP_RECIPES = (
    "A recipe that has left the file is to be put back: its uploads keep their files, are not made again, "
    "and an event that names it is refused."
)
_KEEP_EITHER = (
    "What no recipe makes is of uploads beyond those that were looked at: a recipe had a table for it, or "
    "has left the file. Put back the one or the other; media reprocess --stale takes it from uploads whose "
    "recipe is there."
)
_HAVE_TIME = (
    "What takes longer fails as decode_timeout. Raise MEDIA_IMAGE_TIMEOUT, or make fewer or smaller variants "
    'as AVIF or with effort = "small".'
)
CURE = (
    "Events are taken nevertheless, and in their order; only how long they wait is unknown. If no clock "
    "was wrong, find who sends IDs of its own instead of `*`. `media stream reset` begins the stream anew."
)


@dataclass(frozen=True)
class Finding:
    """The result of one inspection: what was found, and what to do about it."""

    what: str
    level: Literal["ok", "warning", "error"]
    detail: str
    advice: str | None = None


def inspect_redis(info: ServerInfo) -> Sequence[Finding]:
    """Findings about a Redis, from what it says of itself."""
    return [
        *_inspect_server(info),
        *_inspect_size(info.largest_bytes),
        _finding(
            "Redis stream",
            "its newest ID is not ahead of the clock"
            if info.ahead_ms <= AHEAD_MS
            else f"its newest ID is {info.ahead_ms // 1000} s ahead of the clock, as all to come will be",
            info.ahead_ms <= AHEAD_MS,
            CURE,
            "warning",
        ),
    ]


def _inspect_server(info: ServerInfo) -> Sequence[Finding]:
    if info.version is None:
        detail = "unknown: this user may not run INFO, which is fine for a worker"
        return [Finding("Redis version", "ok", detail)]
    version = tuple(int(part) for part in info.version.split(".")[:2])
    return [
        _finding(
            "Redis version",
            info.version,
            version >= OLDEST_REDIS,
            "Update to Redis 6.2 or newer, or Valkey.",
        ),
        _finding(
            "Redis role",
            info.role or "unknown",
            info.role in ("master", None),
            "Point MEDIA_REDIS_URL at the primary: a replica accepts no writes.",
        ),
        _finding(
            "Redis durability",
            "append-only file" if info.keeps_data else "no append-only file",
            info.keeps_data is not False,
            "Set `appendonly yes`, or events not yet taken are lost in a crash.",
            "warning",
        ),
        _finding(
            "Redis eviction",
            info.policy or "unknown",
            info.policy in ("noeviction", None),
            "Set `maxmemory-policy noeviction`, or a full Redis forgets events.",
            "warning",
        ),
    ]


def _inspect_size(largest: int | None) -> Sequence[Finding]:
    if largest is None:
        return []
    most = LARGEST_REPLY // MIB
    detail = (
        f"takes values of up to {largest // MIB} MiB; workers refuse entries of more than {most} MiB unread"
    )
    advice = (
        "Set `proto-max-bulk-len 1mb`: until a worker has removed it, a larger entry fills Redis' memory."
    )
    return [_finding("Redis values", detail, largest <= LARGEST_VALUE, advice, "warning")]


def _finding(
    what: str, detail: str, ok: bool, advice: str, level: Literal["warning", "error"] = "error"
) -> Finding:
    return Finding(what, "ok", detail) if ok else Finding(what, level, detail, advice)


def inspect_memory(settings: Settings) -> Finding:
    """Whether the memory that the settings speak of is there."""
    budget, asked = settings.budget_mb, settings.memory_mb
    limit = settings.memory_limit
    limited, by = budget < asked, limit.by if limit else ""
    if budget >= LEAST_MEMORY_MB:
        otherwise = f", or set MEDIA_MEMORY_MB={budget}."
    else:
        otherwise = "." if asked == LEAST_MEMORY_MB else f"; {LEAST_MEMORY_MB} MiB are the least."
    return _finding(
        "Memory budget",
        f"{budget} MiB, {by}; MEDIA_MEMORY_MB is {asked}" if limited else f"{budget} MiB",
        not limited,
        f"Raise {by} to {asked} MiB{otherwise}",
        "warning",
    )


def inspect_recipes(settings: Settings, dropped: Sequence[DroppedVariant] = ()) -> Finding:
    """Whether recipes still make what uploads have, and a `default` of one's own what the built-in one does.

    `dropped` are the variants that uploads of a catalog have and their recipes make no more.
    """
    recipes = settings.recipe_book
    dropped = [one for one in dropped if not _is_on_purpose(one, recipes)]
    had = {one.variant for one in dropped}
    built_in = ", ".join(name for name in dropped_from_default(recipes) if name not in had)
    words = [f"the default in {settings.recipes} makes no {built_in}"] if built_in else []
    changed = [one for one in dropped if one.recipe in recipes]
    gone = [one for one in dropped if one.recipe is not None and one.recipe not in recipes]
    unseen = [one for one in dropped if one.recipe is None]
    names = sorted({str(one.recipe) for one in gone})
    by_recipe = [[one for one in gone if one.recipe == name] for name in names]
    words += _first([_dropped(f"{one.recipe} makes no", [one]) for one in changed])
    words += _first([_left(some) for some in by_recipe])
    words += [_dropped("no recipe makes", unseen)] if unseen else []
    slow = _first([*_slow(settings)])
    words += slow
    kinds = ((changed, _KEEP_TABLES), (gone, _KEEP_RECIPES), (unseen, _KEEP_EITHER), (slow, _HAVE_TIME))
    advice = " ".join(keep for some, keep in kinds if some)
    extend = _EXTEND.format(first=built_in.partition(",")[0])
    return _finding("Recipes", "; ".join(words) or ", ".join(recipes), not words, advice or extend, "warning")


def _slow(settings: Settings) -> Iterator[str]:
    """Which recipes have variants that a picture full of noise would not be encoded to in time."""
    for recipe in settings.recipe_book.values():
        sizes = ((one, min(one.box**2, settings.max_pixels)) for one in recipe.variants)
        seconds = sum(slowest_s(*each) for each in sizes)
        if seconds > settings.image_timeout:
            told = f"MEDIA_IMAGE_TIMEOUT is {settings.image_timeout:g}"
            yield f"{recipe.name} may take {seconds:.0f} s of CPU for a large picture of noise, and {told}"


def _is_on_purpose(one: DroppedVariant, recipes: Recipes) -> bool:
    """Whether the file says that the recipe, or where that is not known any recipe, makes no such variant."""
    names = recipes if one.recipe is None else [one.recipe]
    return any(one.variant in recipes[name].without for name in names if name in recipes)


def _first(words: Sequence[str]) -> Sequence[str]:
    """The first of them, and how many more there are."""
    more = len(words) - _NAMED
    return [*words[:_NAMED], f"and {more} more"] if more > 0 else words


def _dropped(who_makes: str, some: Sequence[DroppedVariant]) -> str:
    """Say that of these variants, and how many uploads have the commonest of them."""
    return f"{who_makes} {_names(some)} any more, as {_amount(some)}"


def _left(some: Sequence[DroppedVariant]) -> str:
    """Say of which recipe that has left the file these variants are, and how many uploads have them."""
    return f"the recipe {some[0].recipe} is gone, and {_amount(some)} its {_names(some)}"


def _names(some: Sequence[DroppedVariant]) -> str:
    names = ", ".join(one.variant for one in some[:_NAMED])
    return f"{names} and {len(some) - _NAMED} more" if len(some) > _NAMED else names


def _amount(some: Sequence[DroppedVariant]) -> str:
    most = max(some, key=lambda one: one.uploads)
    amount = f"{'about' if most.is_all else 'at least'} {counted(most.uploads, 'upload')}"
    return f"{amount} {'has' if most.uploads == 1 else 'have'}"


def warn_of(findings: Iterable[Finding]) -> None:
    """Log those that are not ok, by name."""
    for found in findings:
        if found.level != "ok":
            log.warning(found.what.lower().replace(" ", "_"), found=found.detail, advice=found.advice)
