"""The worker of `media worker` and of arq's own command: arq's, which polls only as often as it must."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

import structlog
from arq.worker import Worker

from worker.queue.corrupt_jobs import is_name, is_of_a_job
from worker.queue.jobs import Jobs

log = structlog.get_logger(__name__)

_LONGEST_REASON = 500
_MOST_HEALED = 1000
_LONGEST_PAUSE_S = 0.5  # between two polls


class PromptWorker(Worker):
    """arq's worker, which polls as soon as this process has enqueued a job, or ended one that was waited for.

    Otherwise only retries and jobs of other processes wait for a poll: while none is found, it polls half as
    often each time, down to twice a second; arq wants that for its periodic tasks.
    A job that outlived its lock is not started a second time beside itself.
    """

    _pause_s = 0.0
    _was_told = _has_retried = False

    _healed: set[str]  # jobs of which something was raised once

    async def main(self) -> None:
        self._healed = set()  # not in a constructor: of its parameters arq's program makes the options
        # arq's own lock of a job lasts for the longest of all jobs, however soon its worker dies.
        self.in_progress_timeout_s = self.ctx["settings"].lease
        await super().main()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        # arq keeps one task for each id: of two runs, the second to end would fail, and finish the job.
        # One that has failed stays until arq has seen of what, which is right after this.
        known = set(self.tasks)
        names = [job for job in job_ids if is_name(job)]
        if len(names) < len(job_ids):
            await self._jobs.queues.remove_corrupt(head=True)
        new = [job for job in map(bytes.decode, names) if job not in known]
        tried, later = new[: self._room], new[self._room :]
        await self._begin(tried)
        if later and self._room:  # some of those at the head are locked, maybe very many
            later = await self._jobs.unlocked(later)
        while later and self._room:
            tried, later = later[: self._room], later[self._room :]
            await self._begin(tried)

    async def _begin(self, job_ids: Sequence[str]) -> None:
        begun = await self._jobs.begin(job_ids, self.in_progress_timeout_s)
        for job_id, score in begun.items():
            await self.sem.acquire()
            self.job_counter += 1
            self.tasks[job_id] = task = self.loop.create_task(self.run_job(job_id, score))
            task.add_done_callback(partial(self._note_end, job_id))
        if begun:
            self._pause_s = _LONGEST_PAUSE_S if self._was_told else 0  # others put more there, or nobody did

    def _note_end(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._jobs.note_end(job_id)
        has_raised = _has_raised(task)
        if not has_raised:
            self.tasks.pop(job_id, None)  # arq would do so with its next poll, for which a stop would wait
        # Where there was room, all that is due has begun.
        is_awaited = self.burst or not self._room or self._has_retried or has_raised
        self._release_sem_dec_counter_on_complete()
        if is_awaited:
            self._has_retried = False
            self._queued.set()

    async def run_job(self, job_id: str, score: int) -> None:
        # What arq raises here ends the worker: other programs may have written what it meets.
        retried = self.jobs_retried
        try:
            await super().run_job(job_id, score)
        except Exception as error:
            if not is_of_a_job(error):
                raise
            log.warning(
                "job_not_run", job_id=job_id, reason=f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
            )
            if job_id in self._healed:
                self._healed.discard(job_id)
                await self._jobs.discard([job_id])  # the reconciler queues its uploads again
            else:
                if len(self._healed) >= _MOST_HEALED:
                    self._healed.clear()  # then some get one more try
                self._healed.add(job_id)
                await self._jobs.heal(job_id)
            self._has_retried = True
        else:
            self._has_retried |= self.jobs_retried > retried

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
        # What a worker enqueues that is to stop it does not run, and nobody else enqueues that tick.
        if self.allow_pick_jobs:
            await super().run_cron(n, delay, num_windows)

    async def _poll_iteration(self) -> None:
        longest_s = max(_LONGEST_PAUSE_S, self.poll_delay_s)
        self._pause_s = min(max(2 * self._pause_s, self.poll_delay_s), longest_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self._queued.wait()
                self._pause_s = 0
        self._was_told = self._queued.is_set()
        self._queued.clear()
        await super()._poll_iteration()

    @property
    def _room(self) -> int:
        return max(0, self.max_jobs - self.job_counter)

    @property
    def _queued(self) -> asyncio.Event:
        return self._jobs.queued

    @property
    def _jobs(self) -> Jobs:
        jobs: Jobs = self.ctx["app"].queue.jobs
        return jobs


def _has_raised(task: asyncio.Task[None]) -> bool:
    """Whether arq is to see what the job's task has raised."""
    return task.cancelled() or task.exception() is not None
