"""The chaos: uploads of every kind, a random fault every second, and at the end nothing may be wrong.

Everything random comes from one seed; what the machine makes of it does not.
"""

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import redis

from tests.chaos.forking import ForkedWorker
from tests.chaos.outages import Outage, on_postgres, on_s3
from tests.chaos.own_redis import OwnRedis
from tests.chaos.place import FaultPlace
from tests.chaos.proxy import Mode, Proxy
from tests.chaos.steps import UPLOAD, UPLOAD_ON_S3, Step
from tests.chaos.tracebacks import unexplained
from tests.support import pictures, processes
from tests.support.checker import Findings
from tests.support.fork_server import CommandForks, commands
from tests.support.objects import ObjectsInFolder
from tests.support.workplace import eventually

GRACE_S = 5
_EXPECTED = (-9, 0, 137)  # SIGKILL, SIGTERM, and death at a step
_BUSY = "Another sweep is at work"  # or was, until it was killed
_LONGEST_S = 6.0  # a server that many hosts share is away, and no host has a lease of that length
_REST_S = 180.0  # a few uploads are put off for a while
_ADOPTED_S = 90.0  # a worker that starts looks for adopted uploads once a minute
_DISK = [("create", "ENOSPC"), ("fsync", "EIO"), ("rename", "EIO"), ("all", "EIO"), ("mkdir", "EACCES")]


@dataclass
class Report:
    """What happened, and what was left of it."""

    faults: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)  # by exit code
    stderr_tails: list[str] = field(default_factory=list)  # of workers that ended with an error
    tracebacks: list[str] = field(default_factory=list)  # in the logs, that no fault explains
    sweeps: Counter[str] = field(default_factory=Counter)  # by exit code
    failed_sweeps: list[str] = field(default_factory=list)  # that were not killed, nor kept waiting by one
    states: Counter[str] = field(default_factory=Counter)
    unexpected: dict[str, str] = field(default_factory=dict)  # source: state and code
    forgotten_deletes: int = 0
    replaced: int = 0
    questions: int = 0
    wrong_answers: list[str] = field(default_factory=list)  # to questions that were not forgotten
    dead_letters: int = 0
    unreferenced: int = 0
    adopted: int = 0
    seconds: float = 0.0
    rest_s: float = 0.0
    memory_kib: list[int] = field(default_factory=list)  # of the worker that lived all the time
    descriptors: list[int] = field(default_factory=list)
    keys_left: list[str] = field(default_factory=list)
    log_lines: int = 0


class Chaos:
    """One run; hold it through `open_chaos`."""

    def __init__(
        self,
        place: FaultPlace,
        server: OwnRedis,
        proxy: Proxy,
        outages: list[Outage],
        chance: random.Random,
        *,
        in_full: bool,
    ) -> None:
        self.place, self.server, self.proxy, self._outages = place, server, proxy, outages
        self._steps: Mapping[str, Step] = (
            UPLOAD if isinstance(place.storage, ObjectsInFolder) else UPLOAD_ON_S3
        )
        self.report = Report()
        self._random = chance
        self._expected: dict[str, str] = {}  # the state that each source is to end in
        self._replaced: dict[str, tuple[str, str]] = {}  # by which source, and its state if that fails
        self._asked: dict[str, str] = {}  # the id that each entry asks about
        self._workers: list[ForkedWorker] = []
        self._in_full = in_full

    def run(
        self, *, uploads: int, seconds: float, workers: int, beside: Callable[[], None] = lambda: None
    ) -> Report:
        """Send so many uploads in so many seconds, with a fault every second; gives what came of it.

        That goes on until `beside`, which is done meanwhile, has ended.
        """
        began = time.monotonic()
        self._workers = [self._start_worker() for _ in range(workers)]
        self._warm_up()
        self._measure()
        luck = random.Random(self._random.random())
        app = threading.Thread(target=self._send_all, args=(uploads, seconds * 0.9, luck), daemon=True)
        app.start()
        errors: list[BaseException] = []
        other = threading.Thread(target=_caught(beside, errors), daemon=True)
        other.start()
        while time.monotonic() - began < seconds or app.is_alive() or other.is_alive():
            self._strike()
            time.sleep(self._random.uniform(0.2, 0.6))  # with what it takes itself, a fault a second
            if time.monotonic() - began > len(self.report.memory_kib) * seconds / 40:
                self._measure()
        app.join()
        if errors:
            raise errors[0]
        self._make_peace()
        self._settle()
        self.report.seconds = time.monotonic() - began
        return self.report

    # -- the app

    def _send_all(self, uploads: int, seconds: float, chance: random.Random) -> None:
        began = time.monotonic()
        for number in range(uploads):
            self._send_one(number, chance)
            ahead = number / uploads * seconds - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)

    def _send_one(self, number: int, chance: random.Random) -> None:
        source = f"uploads/{number % 97:02}/{number}.jpg"
        content, state = pictures.small(number), "ready"
        match chance.random():
            case luck if luck < 0.02:
                content = pictures.medium(number % 5)
            case luck if luck < 0.03:
                content, state = content[: len(content) // 2], "failed"
            case luck if luck < 0.04:
                self._say({"source": "uploads/../x", "number": number})
        self._expected[source] = state
        self.place.put(source, content)
        self._say({"source": source, "metadata": {"number": number}})
        if chance.random() < 0.02:  # once more, with other content
            self._expected[source] = "ready"
            self.place.put(source, pictures.small(number + 50_000))
            self._say({"source": source})
        elif chance.random() < 0.02:
            self._expected[source] = "deleted"
            self._say({"delete": _id(source)})
        elif chance.random() < 0.06:
            self._replace(source, number)
        if chance.random() < 0.1:
            self._asked[self._say({"status": _id(source)})] = _id(source)

    def _replace(self, source: str, number: int) -> None:
        """Have another picture take the place of one that may not be ready yet."""
        new = source.replace(".jpg", "-new.jpg")
        self._replaced[source] = new, self._expected[source]
        self._expected |= {source: "deleted", new: "ready"}
        self.place.put(new, pictures.small(number + 70_000))
        self._say({"source": new, "replaces": _id(source)})

    def _say(self, event: dict[str, Any]) -> str:
        """As apps do: try until Redis has taken it, even if it takes it twice; gives the last entry."""
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                return self.place.send(event)
            time.sleep(0.2)

    # -- the faults

    def _start_worker(self) -> ForkedWorker:
        chance = self._random
        fault: dict[str, Any] = {}
        if chance.random() < 0.5 or self._steps is UPLOAD_ON_S3:  # where no disk fails
            steps = self._steps.items()
            step, moment = chance.choice([(name, when) for name, step in steps for when in step.whens])
            fault["crash"] = (step, moment, chance.randint(1, 20))
        else:
            call, error = chance.choice(_DISK)
            fault["disk"] = {"call": call, "errno": error, "nth": None}
        return self.place.start_worker(fault=fault, ready=False)

    def _strike(self) -> None:
        faults: list[Callable[[], None]] = [
            self._kill, self._kill, self._terminate, self._freeze, self._kill_decoder, self._arm,
            self._arm, self._cut, self._hold_up, self._refuse, self._restart_redis, self._fill_redis,
            self._lock_catalog,
        ]  # fmt: skip
        faults += self._outages * (1 if self._in_full else 3)  # the others have a short form of their own
        if self._in_full:
            faults += [self._forget, self._sweep]
        fault = self._random.choice(faults)
        self.report.faults[fault.__name__.removeprefix("_")] += 1
        fault()
        self._replace_the_dead()

    def _mortal(self) -> int:
        """A worker that may die; the first one lives on, so that a leak would show."""
        return self._random.randrange(1, len(self._workers))

    def _replace_the_dead(self) -> None:
        for number, worker in enumerate(self._workers):
            if worker.process.poll() is not None:
                assert number, worker.text[-5000:]  # it has no fault
                code = worker.wait()
                self.report.deaths[str(code)] += 1
                if code not in _EXPECTED and not self._could_not_start(worker):
                    self.report.stderr_tails.append(worker.text[-2000:])
                self._read(worker)
                worker.lines.clear()
                self._workers[number] = self._start_worker()

    def _could_not_start(self, worker: ForkedWorker) -> bool:
        """A server was away: whoever has never worked ends with the reason, and is started again."""
        return bool(self._outages and worker.logged("cannot_start")) and not worker.logged("worker_started")

    def _read(self, worker: ForkedWorker) -> None:
        self.report.log_lines += len(worker.lines)
        self.report.tracebacks += unexplained(worker.lines, self.report.faults)

    def _kill(self) -> None:
        self._workers[self._mortal()].process.kill()

    def _terminate(self) -> None:
        worker = self._workers[self._mortal()]
        if not worker.logged("worker_started"):
            return  # before it listens to signals, SIGTERM ends it by -15; it has taken nothing then
        worker.signal(signal.SIGTERM)
        worker.wait(40)

    def _freeze(self) -> None:
        worker = self._workers[self._random.randrange(len(self._workers))]
        worker.signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.2, 3))  # the lock of SQLite may be frozen too: less than 10 s
        worker.signal(signal.SIGCONT)

    def _kill_decoder(self) -> None:
        worker = self._workers[self._random.randrange(len(self._workers))]
        if not worker.logged("worker_started"):
            return  # whose first decoder dies is right to say that it cannot start
        for pid in worker.decoders()[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _arm(self) -> None:
        worker = self._workers[self._mortal()]
        if not worker.logged("worker_started"):
            return
        worker.arm()
        time.sleep(self._random.uniform(0.2, 2))
        if worker.process.poll() is None:
            worker.disarm()

    def _cut(self) -> None:
        for _ in range(self._random.randint(1, 20)):
            self.proxy.cut()
            time.sleep(0.02)

    def _hold_up(self) -> None:
        modes: list[Mode] = ["cut_on_multi", "drop_exec_reply", "blackhole"]
        self.proxy.mode = self._random.choice(modes)
        time.sleep(self._random.uniform(0.2, 2))
        self.proxy.mode = "pass"

    def _refuse(self) -> None:
        self.proxy.refuse()
        time.sleep(self._random.uniform(0.1, 1.5))
        self.proxy.accept()

    def _restart_redis(self) -> None:
        self.server.kill()
        time.sleep(self._random.uniform(0, 1))
        self.server.start()

    def _fill_redis(self) -> None:
        self.server.client.config_set("maxmemory", "1")
        time.sleep(self._random.uniform(0.2, 1.5))
        self.server.client.config_set("maxmemory", "0")

    def _lock_catalog(self) -> None:
        with self.place.database.locked():
            time.sleep(self._random.uniform(0.2, 2))

    def _forget(self) -> None:
        """Redis loses what it knew, but for the messages, from which the checker reads."""
        gone = [key for key in self.server.client.scan_iter(count=1000) if key != b"media:events"]
        if gone:
            self.server.client.delete(*gone)
        answered = self._answers().keys()
        self._asked = {entry: about for entry, about in list(self._asked.items()) if entry in answered}

    def _sweep(self) -> None:
        """Sweep beside all that, and kill every other sweep in the middle."""
        sweep = self.place.start_worker("sweep", "--apply", "--json", ready=False)
        killed = self._random.random() < 0.5
        if killed:
            time.sleep(self._random.uniform(0.2, 1))
            sweep.kill()
        self._note_exit(sweep, killed=killed)

    def _note_exit(self, sweep: ForkedWorker, *, killed: bool = False) -> int:
        """The exit code of a sweep; while it runs no fault strikes but its own end."""
        code = sweep.wait(60)
        self.report.sweeps[str(code)] += 1
        if code != 0 and not (killed and code == -signal.SIGKILL) and _BUSY not in sweep.text:
            self.report.failed_sweeps.append(f"{code}: {sweep.text[-2000:]}")
        return code

    # -- the end

    def _warm_up(self) -> None:
        self._workers[0].await_log("worker_started")
        self.place.await_state("ready", *self.place.upload(-1, -2, -3, -4))

    def _measure(self) -> None:
        proc = Path(f"/proc/{self._workers[0].pid}")
        pages = int((proc / "statm").read_text().split()[1])
        self.report.memory_kib.append(pages * os.sysconf("SC_PAGE_SIZE") // 1024)
        self.report.descriptors.append(len(list((proc / "fd").iterdir())))

    def _make_peace(self) -> None:
        self.proxy.mode = "pass"
        self.proxy.accept()
        for worker in self._workers:
            worker.signal(signal.SIGCONT)
        self._replace_the_dead()

    def _settle(self) -> None:
        self.report.rest_s = self.place.await_rest(_REST_S)
        self._await_adoption()
        found = self.place.check()
        self._compare(found)
        time.sleep(1)
        self._measure()
        for worker in self._workers:
            worker.await_log("worker_started")
        codes = [worker.stop() for worker in self._workers]
        assert codes == [0] * len(codes), [worker.text[-3000:] for worker in self._workers]
        for worker in self._workers:
            self._read(worker)
        self.report.unreferenced = len(self.place.check().unreferenced)
        if self._in_full:
            self._tidy_up()
        client = self.server.client
        lasting = [key for key in client.scan_iter(count=1000) if client.pttl(key) == -1]
        self.report.keys_left = sorted(key.decode() for key in lasting)

    def _tidy_up(self) -> None:
        """After the grace, a sweep takes away every file that nobody knows, and nothing else."""
        time.sleep(GRACE_S + 1)

        def swept() -> bool:  # the right to sweep may still be that of one that was killed
            return self._note_exit(self.place.start_worker("sweep", "--apply", "--json", ready=False)) == 0

        eventually(swept, _REST_S)
        assert self.place.check().unreferenced == set()

    def _await_adoption(self) -> None:
        """What Redis forgot before anybody had taken it is found in the storage by a worker that starts."""
        until = time.monotonic() + _ADOPTED_S
        while missing := self._unknown():
            self.report.adopted = max(self.report.adopted, len(missing))
            assert time.monotonic() < until, f"nobody adopts {missing[:5]}"
            worker = self.place.start_worker()
            time.sleep(3)
            assert worker.stop() == 0
            self._read(worker)
        self.place.await_rest(_REST_S)

    def _unknown(self) -> list[str]:
        known = self.place.states()  # a tombstone for an upload that was forgotten has no source
        return [source for source in self._expected if source not in known and _id(source) not in known]

    def _check_answers(self) -> None:
        """Each question that Redis did not forget has an answer, which knows what was announced before."""
        answers = self._answers()
        self.report.questions = len(self._asked)
        for entry, upload_id in self._asked.items():
            answer = answers.get(entry, {"id": None})
            knows = self.report.faults["forget"] or answer.get("state") != "unknown"
            if answer["id"] != upload_id or not knows:
                self.report.wrong_answers.append(f"{entry} about {upload_id}: {answer}")

    def _answers(self) -> dict[str, Any]:
        """The answers to questions, by the entries that asked."""
        entries: Any = self.server.client.xrange("media:events")
        told = [json.loads(fields[b"event"]) for _, fields in entries]
        return {one["entry"]: one for one in told if one["type"] == "upload.status"}

    def _compare(self, found: Findings) -> None:
        self.report.states = found.states
        self.report.dead_letters = len(found.letters)
        self._check_answers()
        for source, expected in self._expected.items():
            row = found.uploads.get(source) or found.uploads[_id(source)]
            by, otherwise = self._replaced.get(source, (source, expected))
            if by != source and (found.uploads.get(by) or found.uploads[_id(by)])["state"] != "ready":
                expected = otherwise  # what cannot be made takes nobody's place
            self.report.replaced += row["replaced_by"] is not None
            is_there = row["state"] in ("ready", "failed")
            if expected == "deleted" and is_there and self.report.faults["forget"]:
                self.report.forgotten_deletes += 1  # nothing in the storage records such an event
            elif row["state"] != expected:
                self.report.unexpected[source] = f"{row['state']} {row['error_code']}"


def run_chaos(
    home: Path,
    *,
    uploads: int,
    seconds: float,
    workers: int,
    seed: int,
    in_full: bool = True,
    catalog: str = "sqlite",
    storage: str = "files",
    fork_server: CommandForks | None = None,
    beside: Callable[[FaultPlace], None] = lambda _: None,
) -> Report:
    """Chaos from its beginning to its end; `in_full` with sweeps, and with a Redis that forgets everything.

    It goes on until what is done `beside` it has ended.

    Fails with all that is wrong at the end.
    """
    with ExitStack() as stack:
        server = OwnRedis(home / "redis")
        stack.callback(server.close)
        proxy = Proxy(server.url)
        stack.callback(proxy.close)
        settings = {"MEDIA_CPUS": "1", "MEDIA_REDIS_URL": proxy.url, "MEDIA_GRACE": str(GRACE_S)}
        place = FaultPlace(home / "place", server.url, fork_server or commands(), **settings)
        outages: list[Outage] = []
        longest_s, chance = _LONGEST_S if in_full else 1.0, random.Random(seed)
        if catalog == "postgres":
            place.database, faults = on_postgres(stack, longest_s, chance)
            outages += faults
        if storage == "s3":
            place.storage, faults = on_s3(stack, longest_s, chance)
            outages += faults
        stack.callback(place.close)
        chaos = Chaos(place, server, proxy, outages, chance, in_full=in_full)
        try:
            report = chaos.run(
                uploads=uploads, seconds=seconds, workers=workers, beside=lambda: beside(place)
            )
        finally:
            _keep_logs(place, home / "logs")
        left = place.database.rows("SELECT count(*) AS number FROM outbox WHERE sent_ms IS NULL")
        assert left == [{"number": 0}]
        eventually(lambda: not any(processes.lives(worker.pid) for worker in place.workers))
        return report


def _caught(work: Callable[[], None], errors: list[BaseException]) -> Callable[[], None]:
    def catch() -> None:
        try:
            work()
        except BaseException as error:  # for the thread that waits for this one
            errors.append(error)

    return catch


def _id(source: str) -> str:
    return str(uuid5(NAMESPACE_URL, "media:" + source))


def _keep_logs(place: FaultPlace, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for worker in place.workers:
        if worker.lines:
            (folder / f"{worker.pid}.log").write_text(worker.text)
