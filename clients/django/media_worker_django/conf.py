"""`settings.MEDIA_WORKER`: the one place that reads it, and the client that it describes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver
from media_worker_client import MediaClient
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

DEFAULTS: Mapping[str, Any] = {
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "STREAM": "media:uploads",
    "EVENTS": "media:events",
    "URL": "",
    "DELETE_ORIGINALS": False,
    "DELETE_AFTER": 60,
    "RESEND_AFTER": 60,
}
"""Each setting with its default; README says what each means. The last two are seconds."""

_PATIENCE_S = 2
_instead: list[Any] = []


def option(name: str) -> Any:
    """The value of a setting."""
    return getattr(settings, "MEDIA_WORKER", {}).get(name, DEFAULTS[name])


def client() -> Any:
    """What speaks to the worker in this process: a `MediaClient`, or what `instead` has put there."""
    return _instead[-1] if _instead else _client()


@contextmanager
def instead(other: Any) -> Iterator[None]:
    """Have `client` return another one, in a test."""
    _instead.append(other)
    try:
        yield
    finally:
        _instead.pop()


@lru_cache(1)
def _client() -> MediaClient:
    # A request waits no longer than that for an answer of Redis; the outbox waits instead. Tried again is a
    # connection that Redis, or something between, has ended since it was used last.
    redis = Redis.from_url(
        option("REDIS_URL"),
        socket_timeout=_PATIENCE_S,
        socket_connect_timeout=_PATIENCE_S,
        retry=Retry(NoBackoff(), 1, (ConnectionError,)),
    )
    return MediaClient(redis, stream=option("STREAM"), events=option("EVENTS"))


@receiver(setting_changed)
def _forget(setting: str, **_: object) -> None:
    if setting == "MEDIA_WORKER":
        _client.cache_clear()
