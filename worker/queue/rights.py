"""What a worker does on Redis, command by command, tried without effect to name what is refused.

`ACL DRYRUN` came with Redis 7 and is itself a right. Redis checks rights, memory and role before it reads
what a command is to do; so each command is sent in a form that does nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from arq.connections import ArqRedis
from arq.constants import (
    abort_jobs_ss,
    in_progress_key_prefix,
    job_key_prefix,
    result_key_prefix,
    retry_key_prefix,
)
from redis.exceptions import ResponseError

from worker.domains import Domains
from worker.queue.errors import Refusal
from worker.queue.refusals import (
    SENTINEL,
    is_missing_right,
    is_no_permission,
    missing_rights,
    no_command,
    refusal_of,
    unknown,
)

_NOBODY = "media-worker-tries-its-rights"  # no group, no consumer, no job has that name
_OF_ARQ = "arq:*"
_NEVER_WRONG = ("PING", "XLEN", "ZCARD", "GET", "EXISTS")  # the others are written so that Redis objects
_EVERY_REDIS_HAS = {"GET", "SET", "DEL"}


@dataclass(frozen=True)
class TriedCommand:
    """A command that does nothing, and the keys that it is about, as an ACL names them."""

    words: tuple[str, ...]
    keys: str
    command: str


def attempts(stream: str, events: str, domains: Domains | None = None) -> Sequence[TriedCommand]:
    """Everything that a worker on `stream` does, which writes its messages to `events`.

    With the `domains` of apps it also moves what is on their streams, and writes their messages.
    """
    ours = f"{stream}:*"
    jobs = f"{stream}:jobs"
    job, lock, retry, result = (
        prefix + _NOBODY
        for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix, result_key_prefix)
    )
    return [
        _on(stream, "XLEN", stream),
        _on(stream, "XADD", stream, "0-0", "event", ""),  # no entry has that ID
        _on(stream, "XRANGE", stream, "0-0", "0-0"),
        _on(stream, "XGROUP CREATE", stream, _NOBODY, "no-id"),
        _on(stream, "XGROUP DELCONSUMER", stream, _NOBODY, _NOBODY),
        _on(stream, "XREADGROUP", "GROUP", _NOBODY, _NOBODY, "STREAMS", stream, "0"),
        _on(stream, "XCLAIM", stream, _NOBODY, _NOBODY, "1", "0-1"),
        _on(stream, "XPENDING", stream, _NOBODY),
        _on(stream, "XACK", stream, _NOBODY, "0-1"),
        _on(stream, "XDEL", stream, "no-id"),
        _on(events, "XADD", events, "0-0", "event", ""),
        _on(events, "XREVRANGE", events, "0-0", "0-0"),
        _on(ours, "ZADD", jobs, "no-score", _NOBODY),
        _on(ours, "ZINCRBY", jobs, "no-score", _NOBODY),
        _on(ours, "ZREM", jobs, _NOBODY),
        _on(ours, "ZREMRANGEBYRANK", jobs, "1", "0"),
        _on(ours, "ZSCORE", jobs, _NOBODY),
        _on(ours, "ZMSCORE", jobs, _NOBODY),
        _on(ours, "ZUNIONSTORE", jobs, "no-number", jobs),
        _on(ours, "ZCARD", jobs),
        _on(ours, "ZCOUNT", jobs, "1", "0"),
        _on(ours, "ZRANGE", jobs, "1", "0"),
        _on(ours, "ZRANGEBYSCORE", jobs, "1", "0"),
        _on(ours, "ZREVRANGEBYSCORE", jobs, "0", "1"),
        _on(ours, "EXPIRE", jobs, "no-time"),
        _on(ours, "GET", f"{stream}:{_NOBODY}"),
        _on(ours, "MGET", f"{stream}:{_NOBODY}"),
        _on(ours, "SET", f"{stream}:{_NOBODY}", "", "NX", "XX"),  # it can be only one of them
        _on(ours, "DEL", f"{stream}:{_NOBODY}"),
        _on(_OF_ARQ, "GET", job),
        _on(_OF_ARQ, "GETRANGE", job, "0", "0"),
        _on(_OF_ARQ, "PTTL", lock),
        _on(_OF_ARQ, "EXISTS", job, result, lock),  # two at once: a cluster refuses that
        _on(_OF_ARQ, "PSETEX", job, "no-time", ""),
        _on(_OF_ARQ, "SETEX", retry, "no-time", ""),
        _on(_OF_ARQ, "SET", lock, "", "NX", "XX"),
        _on(_OF_ARQ, "PEXPIRE", lock, "no-time"),
        _on(_OF_ARQ, "INCRBY", retry, "1"),  # the only one with an effect, which DEL ends
        _on(_OF_ARQ, "EXPIRE", retry, "no-time"),
        _on(_OF_ARQ, "ZREM", abort_jobs_ss, _NOBODY),
        _on(_OF_ARQ, "DEL", job, lock, retry),
        _on(_OF_ARQ, "PING"),
        _on(_OF_ARQ, "WATCH", job),
        _on(_OF_ARQ, "UNWATCH"),
        _on(_OF_ARQ, "MULTI"),
        _on(_OF_ARQ, "EXEC"),  # right after it, so that nothing is in the transaction
        *(_of_apps(domains) if domains else ()),
    ]


def _of_apps(domains: Domains) -> Iterable[TriedCommand]:
    ours, lease = f"{domains.stream}:*", f"{domains.stream}:{_NOBODY}"
    for domain in domains.all:
        yield _on(domain.stream, "XLEN", domain.stream)
        yield _on(domain.stream, "XADD", domain.stream, "0-0", "event", "")
        yield _on(domain.stream, "XRANGE", domain.stream, "0-0", "0-0")
        yield _on(domain.stream, "XREAD", "COUNT", "no-count", "STREAMS", domain.stream, "0")
        yield _on(domain.stream, "XDEL", domain.stream, "no-id")
        told = domains.messages_of(domain)
        yield _on(told, "XADD", told, "0-0", "event", "")
        yield _on(ours, "PTTL", lease)
        yield _on(ours, "PEXPIRE", lease, "no-time")


def _on(keys: str, command: str, *rest: str) -> TriedCommand:
    return TriedCommand((*command.split(), *rest), keys, command)


async def try_rights(
    redis: ArqRedis, stream: str, events: str, domains: Domains | None = None
) -> Refusal | None:
    """The first refusal of all that a worker does, if any."""
    tried = attempts(stream, events, domains)
    apps = [(each.stream, domains.messages_of(each)) for each in domains.all] if domains else []
    async with redis.pipeline(transaction=False) as pipe:
        for attempt in tried:
            pipe.pipeline_execute_command(*attempt.words)  # type: ignore[no-untyped-call]
        answers = await pipe.execute(raise_on_error=False)
    refused = [
        (attempt, answer)
        for attempt, answer in zip(tried, answers, strict=True)
        if isinstance(answer, ResponseError)
    ]
    return (
        _of_cluster(refused)
        or await _of_sentinel(redis, refused)
        or _of_type(refused, (stream, events, *chain(*apps)))
        or _of_rights(refused)
        or next((found for _, error in refused if (found := refusal_of(error)) and found.transient), None)
        or _of_unknown_answer(refused)
    )


Refused = Sequence[tuple[TriedCommand, ResponseError]]


def _of_cluster(refused: Refused) -> Refusal | None:
    found = (refusal_of(error) for _, error in refused)
    return next((one for one in found if one and "cluster" in one.what), None)


async def _of_sentinel(redis: ArqRedis, refused: Refused) -> Refusal | None:
    lacks = {attempt.command for attempt, error in refused if is_missing_right(error)}
    if not lacks >= _EVERY_REDIS_HAS:
        return None
    try:
        info = await redis.info("server")
    except ResponseError:
        return None
    return SENTINEL if info.get("redis_mode") == "sentinel" else None


def _of_unknown_answer(refused: Refused) -> Refusal | None:
    for attempt, error in refused:
        if attempt.command in _NEVER_WRONG and refusal_of(error) is None:
            return unknown(attempt.command, str(error))
    return None


def _of_type(refused: Refused, streams: Iterable[str]) -> Refusal | None:
    for attempt, error in refused:
        if "WRONGTYPE" in str(error) and attempt.keys in streams:
            return Refusal(
                f"the key {attempt.keys} is no stream",
                "Another program writes it: name other keys in MEDIA_STREAM and MEDIA_EVENTS",
            )
    return None


def _of_rights(refused: Refused) -> Refusal | None:
    lacks = [(attempt, str(error)) for attempt, error in refused if is_no_permission(error)]
    commands = [attempt.command for attempt, said in lacks if "run the" in said]
    keys = [attempt.keys for attempt, said in lacks if "run the" not in said]
    if lacks:
        return missing_rights(list(dict.fromkeys(commands)), list(dict.fromkeys(keys)))
    absent = [attempt.command for attempt, error in refused if is_missing_right(error)]
    return no_command(", ".join(dict.fromkeys(absent))) if absent else None
