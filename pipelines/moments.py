"""Moments as people and programs read them."""

from datetime import UTC, datetime


def moment(ms: int) -> str:
    """A time in ms since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def precise_moment(ms: int) -> str:
    """The same to the millisecond, with `Z` for UTC, as messages have it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
