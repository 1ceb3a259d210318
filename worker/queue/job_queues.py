"""The queues of jobs: each worker polls one of its own, and takes over those of workers that are gone.

A poll of arq asks for each job in work at the head of its queue. On one queue for all, each worker would ask
for the jobs of all others, so that the commands would grow with the square of the workers.

`<stream>:jobs` is nobody's: it holds what workers have left that ended while no other was healthy.

The index `<stream>:queues` has a number for each queue, so that a worker that has nothing to do asks one
question, however many workers there are. The number says in which of three states the queue is:

- empty: 0. No job waits there.
- waiting: the time since which jobs may wait there. While all of them run, their worker sets it a little
  ahead, again and again; a worker that stands still, or is cut off, does not, and others take its jobs.
- gone: the time at which its worker was found to be gone, with a minus. It stays for an hour, because whoever
  chose the queue before may still write to it.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from random import sample

from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from redis.asyncio.client import Pipeline

from worker.queue.corrupt_jobs import LONGEST_LOCK_MS, remove_corrupt
from worker.queue.heartbeats import Heartbeats, has_ended
from worker.queue.job_moves import KEPT_S, WAITED_MS, move_all, move_uploads, share_out, take_waiting
from worker.queue.mapping import maps_errors

_LOOKED_AT = 3  # queues of others
_RUNNING_MS = 3000  # for which others need not look into a queue where no job waits
_GONE_KEPT_MS = 3_600_000
_LONGEST_NAME = 1000
_TRIES = 3  # where a queue changes while jobs are moved


def job_queue_of(stream: str, instance: str | None = None) -> str:
    """The name of the queue that this worker polls; None: the name of the one that is nobody's."""
    return f"{stream}:jobs:{instance}" if instance else f"{stream}:jobs"


def _names(index: Iterable[bytes]) -> Sequence[str]:
    """The workers in the index, without what no worker is called."""
    return [member.decode() for member in index if len(member) <= _LONGEST_NAME and _is_text(member)]


def _is_text(member: bytes) -> bool:
    try:
        return bool(member.decode())
    except UnicodeDecodeError:
        return False


def _is_past(gone_since: float, now: int) -> bool:
    """Whether a worker has been gone for long; a time that is not of this world is past, too."""
    return now + gone_since >= _GONE_KEPT_MS or now + gone_since < -_GONE_KEPT_MS


@maps_errors
class JobQueues:
    """The queues of one stream, as the worker `instance` sees them; None: a process that is no worker."""

    def __init__(
        self,
        redis: ArqRedis,
        stream: str,
        instance: str | None,
        heartbeats: Heartbeats,
        longest_lock_ms: int = LONGEST_LOCK_MS,
    ) -> None:
        self.own = job_queue_of(stream, instance)
        self._shared = job_queue_of(stream)
        self._prefix = f"{self._shared}:"
        self._index = f"{stream}:queues"
        self._redis = redis
        self._instance = instance
        self._heartbeats = heartbeats
        self._longest_lock_ms = longest_lock_ms
        self._waits_since_ms = 0  # as the index has it of the own queue, if nobody else wrote there since

    async def all(self) -> Sequence[str]:
        """The own queue, the one that is nobody's, and those in the index, each once."""
        return self.named(await self._redis.zrange(self._index, 0, -1))

    async def times_ms(self) -> Mapping[str, int]:
        """All queues, each with the time by which its jobs are due: that of the clock of who polls it.

        A worker's clock is known from its last heartbeat; where nobody polls, the time is this process's.
        """
        told, now = await self._heartbeats.times_ms(), timestamp_ms()
        times = {queue: told.get(queue.removeprefix(self._prefix), now) for queue in await self.all()}
        return times | {self.own: now}

    def ask_for_all(self, pipe: Pipeline) -> None:
        """Ask for what `named` makes the names of all queues of."""
        pipe.zrange(self._index, 0, -1)

    def named(self, index: Iterable[bytes]) -> Sequence[str]:
        """The own queue, the one that is nobody's, and those in the index, each once."""
        queues = (self._name(member) for member in _names(index))
        return list(dict.fromkeys([self.own, self._shared, *queues]))

    async def enter_own(self) -> None:
        """Enter the own queue into the index."""
        async with self._redis.pipeline(transaction=False) as pipe:
            since_ms = self.ask_to_enter_own(pipe)
            await pipe.execute()
        self.note_entered(since_ms)

    def ask_to_enter_own(self, pipe: Pipeline) -> int:
        """Have the own queue entered into the index; `note_entered` what this returns."""
        now = timestamp_ms()
        since_ms = min(self._waits_since_ms or now, now)
        if self._instance is not None:
            pipe.zadd(self._index, {self._instance: since_ms})
        return since_ms

    def note_entered(self, since_ms: int) -> None:
        """The index says so of the own queue."""
        self._waits_since_ms = since_ms

    async def note(self, *, due: int, untaken: int) -> None:
        """Note in the index whether jobs wait in the own queue, or at least run, unless it says so."""
        now, noted = timestamp_ms(), self._waits_since_ms
        if untaken:
            known, since = 0 < noted <= now, now
        elif due:
            known, since = noted > now + _RUNNING_MS // 2, now + _RUNNING_MS
        else:
            known, since = noted == 0, 0
        if self._instance is not None and not known:
            await self._index_own(since)

    async def take_over(self, *, everything: bool = False) -> int:
        """Move what nobody polls into the own queue; returns how many corrupt jobs were removed before.

        `everything`: also the uploads in the queues of living workers, as a burst does all there is.

        Two workers may do so at once: for the second one a queue is empty. A worker that only slept finds its
        queue empty, and its jobs are fenced by their claims.
        """
        if self._instance is None:
            return 0
        indexed = await self._indexed()
        if indexed.get(self._instance, -1) < 0:  # it is new, or was taken for dead
            await self._index_own(timestamp_ms())
        for key in (self.own, self._index):
            await self._redis.expire(key, KEPT_S)
        living = {self._instance, *(worker.instance for worker in await self._heartbeats.running())}
        gone = {
            instance: since
            for instance, since in indexed.items()
            if instance not in living and self._is_gone(instance, since)
        }
        orphaned = indexed.keys() - {self._instance} if everything else gone
        corrupt = 0
        for queue in await self._existing([self._shared, *map(self._name, orphaned)]):
            corrupt += await remove_corrupt(self._redis, queue, longest_lock_ms=self._longest_lock_ms)
            if queue in map(self._name, living):
                await move_uploads(self._redis, queue, self.own)
            else:
                await self._move(queue, self._instance)
        await self._note_gone(gone)
        return corrupt

    def _is_gone(self, instance: str, since: float) -> bool:
        """Whether that silent worker is gone: it was before, its process is, or others are heard."""
        return since < 0 or has_ended(instance) or self._heartbeats.are_regular

    async def _existing(self, queues: Sequence[str]) -> Sequence[str]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.exists(queue)
            found = await pipe.execute()
        return [queue for queue, exists in zip(queues, found, strict=True) if exists]

    async def _note_gone(self, gone: Mapping[str, float]) -> None:
        """Note in the index since when workers are gone; forget those that have been for long."""
        now = timestamp_ms()
        if new := [instance for instance, since in gone.items() if since >= 0]:
            await self._redis.zadd(self._index, dict.fromkeys(new, -now))
        if long_gone := [one for one, since in gone.items() if since < 0 and _is_past(since, now)]:
            await self._redis.zrem(self._index, *long_gone)

    async def remove_corrupt(self, *, head: bool = False) -> int:
        """Remove corrupt jobs from the own queue; returns how many. `head`: where arq looks."""
        return await remove_corrupt(self._redis, self.own, longest_lock_ms=self._longest_lock_ms, head=head)

    async def take(self, most: int) -> bool:
        """Take up to `most` jobs that have waited in another worker's queue; returns whether there were any.

        That worker has more than it can do, or stands still. Of many queues a few are looked at. In the own
        queue nothing waits, or this worker would begin it.
        """
        if self._instance is None:
            return False
        noted = await self._redis.zrangebyscore(self._index, 1, timestamp_ms() - WAITED_MS)
        instances = set(_names(noted))
        if self._instance in instances:
            await self._index_own(0)
        others = sorted(instances - {self._instance})
        for instance in sample(others, min(len(others), _LOOKED_AT)):
            if await take_waiting(self._redis, self._name(instance), self.own, most):
                return True
        return False

    async def hand_on(self) -> None:
        """Leave the own queue to a healthy worker, or to whoever comes, as this worker polls no more."""
        if self._instance is None:
            return
        others = await self._healthy_others()
        await self._move(self.own, secrets.choice(others) if others else None)

    async def hand_on_untaken(self) -> None:
        """Leave to healthy workers, or to whoever comes, what is not begun here, as nothing more will be."""
        if self._instance is None:
            return
        others = await self._healthy_others()
        await self._index_queues(others)
        targets = [self._name(instance) for instance in others] or [self._shared]
        for _ in range(_TRIES):
            if await share_out(self._redis, self.own, targets):
                return

    async def _healthy_others(self) -> Sequence[str]:
        running = await self._heartbeats.running()
        return [one.instance for one in running if one.healthy and one.instance != self._instance]

    def _name(self, instance: str) -> str:
        return self._prefix + instance

    async def _index_queues(self, instances: Collection[str]) -> None:
        """Put these into the index, before there is a job in their queues."""
        if instances:
            await self._redis.zadd(self._index, dict.fromkeys(instances, timestamp_ms()))

    async def _index_own(self, waits_since_ms: int) -> None:
        await self._redis.zadd(self._index, {str(self._instance): waits_since_ms})
        self._waits_since_ms = waits_since_ms

    async def _indexed(self) -> Mapping[str, float]:
        found: Sequence[tuple[bytes, float]] = await self._redis.zrange(self._index, 0, -1, withscores=True)
        if strange := [member for member, _ in found if not _names([member])]:
            await self._redis.zrem(self._index, *strange)
        return {name: since for member, since in found for name in _names([member])}

    async def _move(self, queue: str, heir: str | None) -> None:
        target = self._name(heir) if heir else self._shared
        now = timestamp_ms()
        entries = {heir: now} if heir else {}
        if queue != self._shared:
            entries[queue.removeprefix(self._prefix)] = -now
        await move_all(self._redis, queue, target, self._index, entries)
