"""Where errors of Redis, of its client and of the network become this layer's."""

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import ParamSpec, TypeVar

from redis.exceptions import RedisError, ResponseError

from worker.queue.errors import QueueRefused, QueueUnavailable
from worker.queue.refusals import is_missing_right, refusal_of

P = ParamSpec("P")
T = TypeVar("T")
Errors = tuple[type[Exception], ...]

EVERYTHING: Errors = (RedisError, OSError)
OF_A_CONNECTION: Errors = (RedisError, ConnectionError, TimeoutError, socket.gaierror)
"""Where other things are done too: the other errors of the system are a disk's or a folder's there."""


@contextmanager
def mapped(errors: Errors = EVERYTHING) -> Iterator[None]:
    """Raise QueueUnavailable in the place of `errors`."""
    try:
        yield
    except errors as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> QueueUnavailable:
    """The QueueUnavailable that `error` is: a QueueRefused where it is known what Redis refuses."""
    if refusal := refusal_of(error):
        return QueueRefused(refusal)
    if isinstance(error, ResponseError):
        return QueueUnavailable(str(error), "Redis says no")
    return QueueUnavailable(str(error))


async def unless_denied(asked: Awaitable[T]) -> T | None:
    """The answer, or None where this user may not run the command, as is common on a hosted Redis."""
    try:
        return await asked
    except ResponseError as error:
        if is_missing_right(error):
            return None
        raise


def maps_errors(part: type[T]) -> type[T]:
    """Have every public method of a class raise QueueUnavailable in the place of what Redis raises."""
    for name, method in list(vars(part).items()):
        if iscoroutinefunction(method) and not name.startswith("_"):
            setattr(part, name, _mapped(method))
    return part


def _mapped(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with mapped():
            return await method(*args, **kwargs)

    return call
