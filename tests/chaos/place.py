"""A workplace for chaos: its workers come from the fork server and can be made to fail."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.forking import ForkedWorker
from tests.support import pictures
from tests.support.catalog_rows import NoTables
from tests.support.commands import document, media
from tests.support.fork_server import CommandForks
from tests.support.job_queues import queued_jobs_of_uploads
from tests.support.workplace import TIMEOUT_S, Workplace, eventually

Case = tuple[str, str, int]
"""A step, a moment of it, and the how-manieth time."""


class FaultPlace(Workplace):
    """A workplace whose workers have faults injected."""

    def __init__(
        self,
        home: Path,
        redis_url: str,
        fork_server: CommandForks,
        catalog: Path | None = None,
        /,
        **settings: str,
    ) -> None:
        super().__init__(home, redis_url, catalog, **settings)
        self._fork_server = fork_server

    def start_worker(
        self, *words: str, ready: bool = True, fault: dict[str, Any] | None = None, **settings: str
    ) -> ForkedWorker:
        """Start a worker (or the command of `words`), unarmed, and wait until it has started."""
        env = self.env(**settings, CHAOS=json.dumps(fault or {}))
        worker = ForkedWorker(self._fork_server, words, env, self.home)
        self.workers.append(worker)
        if ready and not words:
            worker.await_log("worker_started")
        return worker

    def upload(self, *numbers: int) -> list[str]:
        """Put and announce so many small pictures; gives their sources."""
        sources = [self.put(f"uploads/{number}.jpg", pictures.small(number)) for number in numbers]
        self.send_all({"source": source} for source in sources)
        return sources

    def media(self, *words: str) -> Any:
        """Run the command `media … --json`; gives the document that it prints."""
        return document(media(self.env(), *words, "--json"))

    def states(self) -> dict[str, str]:
        """The state of each source."""
        try:
            found = self.database.rows("SELECT source, id, state FROM uploads")
        except NoTables:
            return {}
        return {row["source"] or row["id"]: row["state"] for row in found}

    def await_state(self, state: str, *sources: str, within: float = TIMEOUT_S) -> float:
        """Wait until each of `sources` has that state; gives the seconds that it took."""

        def reached() -> bool:
            states = self.states()
            return all(states.get(source) == state for source in sources)

        return self.await_that(reached, within)

    def await_rest(self, within: float = TIMEOUT_S) -> float:
        """Wait until nothing is queued, on a job or untold any more; gives the seconds that it took."""
        restless = (
            "SELECT (SELECT count(*) FROM uploads WHERE state IN ('queued', 'processing', 'deleting')) "
            "+ (SELECT count(*) FROM outbox WHERE sent_ms IS NULL) AS number"
        )

        def rests() -> bool:
            jobs = queued_jobs_of_uploads(self.redis)
            waiting = self.redis.xlen("media:uploads")
            return not jobs and not waiting and self.database.rows(restless)[0]["number"] == 0

        return self.await_that(rests, within)

    def await_that(self, holds: Callable[[], bool], within: float = TIMEOUT_S) -> float:
        """Wait for something that the catalog, Redis or a process shows; gives the seconds that it took."""
        began = time.monotonic()
        try:
            eventually(holds, within)
        except AssertionError as error:
            logs = "\n".join(f"-- {worker.pid}\n{worker.text[-3000:]}" for worker in self.workers[-3:])
            raise AssertionError(f"{error}: {self.states()}\n{logs}") from error
        return time.monotonic() - began
