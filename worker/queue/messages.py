"""The stream of messages, which apps read."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from arq.connections import ArqRedis

from worker.queue.mapping import maps_errors
from worker.queue.replies import ReplyTooLarge
from worker.queue.stream import now_ms

_FIELD = "event"
_NEWEST = 1000  # messages among which the newest is
_READ = 500  # at once
_UNKEPT = ("sweep.stopped", "upload.started", "upload.status")  # the types of those that are in no catalog
_NO_SEQ = 2**53  # and above: the catalog gives none, and JavaScript would round it


@maps_errors
class Messages:
    """The messages on the stream `name`."""

    def __init__(self, redis: ArqRedis, name: str, maxlen: int) -> None:
        self.name = name
        self._redis = redis
        self._maxlen = maxlen

    async def send(
        self, messages: Sequence[Mapping[str, Any]], also_to: Sequence[str | None] | None = None
    ) -> None:
        """Append `messages` to the stream, and each to that of its app in `also_to`, where it has one.

        Streams are trimmed to about `maxlen` entries.
        """
        apps = also_to or [None] * len(messages)
        await self._append(messages, [[self.name] if app is None else [self.name, app] for app in apps])

    async def answer(self, answers: Sequence[Mapping[str, Any]], to: Sequence[str | None]) -> None:
        """Append each of `answers` to that stream of an app alone, or to the stream where it has none.

        Whoever asks much has only its own messages trimmed by that.
        """
        await self._append(answers, [[app or self.name] for app in to])

    async def _append(self, messages: Sequence[Mapping[str, Any]], streams: Sequence[Sequence[str]]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for message, names in zip(messages, streams, strict=True):
                for name in names:
                    pipe.xadd(name, {_FIELD: orjson.dumps(message)}, maxlen=self._maxlen, approximate=True)
            await pipe.execute()

    async def newest_seq(self) -> int:
        """The greatest `seq` among the newest messages, which may be out of order; 0 when there is none.

        What no catalog keeps does not count among them: many questions may have been answered since. Where
        their answers may have trimmed all others, it is the clock (ms since 1970), which is above any.
        """
        newest, left, before = 0, _NEWEST, "+"
        while left > 0 and (found := await self._newest("-", _NEWEST, before)):
            messages = [_message(fields) for _, fields in found]
            newest = max(newest, *map(_seq, messages))
            left -= sum(message.get("type") not in _UNKEPT for message in messages)
            before = f"({found[-1][0].decode()}"
        if left == _NEWEST and await self._redis.xlen(self.name) >= self._maxlen:
            return max(newest, await now_ms(self._redis))
        return newest

    async def recent(self, count: int, within_ms: int) -> Sequence[tuple[int, str | None] | None]:
        """`seq` and upload of up to `count` messages of the last `within_ms`, by Redis' clock.

        None for an entry that is no message of an upload; those that no catalog keeps are left out.
        """
        newest = await self._newest(str(await now_ms(self._redis) - within_ms), count)
        messages = [_message(fields) for _, fields in newest]
        return [_identity(message) for message in messages if message.get("type") not in _UNKEPT]

    async def above(self, seq: int, after: str) -> tuple[Sequence[dict[str, Any]], str | None]:
        """The messages with a greater `seq` among the next ones behind the ID `after` (`0`: from the first).

        With the ID to go on from; None: there are no more.
        """
        entries = await self._redis.xrange(self.name, min=f"({after}", count=_NEWEST)
        messages = [_message(fields) for _, fields in entries]
        last = entries[-1][0].decode() if entries else None
        return [message for message in messages if _seq(message) > seq], last

    async def last_id(self) -> str:
        """The ID of the newest message, to read from there on; `0` when there is none."""
        try:
            newest = await self._redis.xrevrange(self.name, count=1)
        except ReplyTooLarge as error:
            return error.first_id or "0"
        return newest[0][0].decode() if newest else "0"

    async def after(self, entry_id: str, block_ms: int) -> Sequence[tuple[str, dict[str, Any]]]:
        """Messages after `entry_id`, each with its ID; waits up to `block_ms` for the first.

        What another program wrote there may hold anything; where it is no JSON object, it is empty.
        """
        streams: dict[Any, Any] = {self.name: entry_id}
        count = _READ
        while True:
            try:
                found = await self._redis.xread(streams, count=count, block=block_ms)
            except ReplyTooLarge as error:
                if count == 1 and error.first_id:
                    return [(error.first_id, {})]
                count = max(1, count // 8)
            else:
                break
        entries = found[0][1] if found else []
        return [(message_id.decode(), _message(fields)) for message_id, fields in entries]

    async def _newest(
        self, since: str, count: int, before: str = "+"
    ) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
        """Up to `count` of the newest; fewer where another program wrote what is too large to be read."""
        while count:
            try:
                found: Sequence[tuple[bytes, Mapping[bytes, bytes]]] = await self._redis.xrevrange(
                    self.name, max=before, min=since, count=count
                )
            except ReplyTooLarge:
                count //= 8
            else:
                return found
        return []


def _message(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    """An entry's message; empty where it has none, for other programs may write there too."""
    try:
        found = orjson.loads(fields.get(_FIELD.encode(), b""))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _seq(message: Mapping[str, Any]) -> int:
    """The `seq` of a message; 0 for what is none."""
    seq = message.get("seq")
    return seq if type(seq) is int and 0 <= seq < _NO_SEQ else 0


def _identity(message: Mapping[str, Any]) -> tuple[int, str | None] | None:
    """The `seq` and the upload of a message; None for what is none."""
    seq, upload = _seq(message), message.get("id", _NO_SEQ)
    return (seq, upload) if seq and (upload is None or isinstance(upload, str)) else None
