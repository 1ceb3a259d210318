"""Check-ups: one at a time, kept for a while, and whatever hangs holds up nobody."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest

from worker.doctor.checkups import Checkups, Topics
from worker.findings import Finding
from worker.settings import Settings


class CountedChecks:
    """Checks that count how often they were made, and hang until they are released."""

    def __init__(self) -> None:
        self.made = 0
        self.released = threading.Event()

    def well(self, _settings: Settings) -> Mapping[str, AsyncIterator[Finding]]:
        return {"Disk": self._disk()}

    def with_one_that_waits(self, _settings: Settings) -> Mapping[str, AsyncIterator[Finding]]:
        return {"Disk": self._disk(), "Catalog": self._waiting()}

    def with_one_that_blocks(self, _settings: Settings) -> Mapping[str, AsyncIterator[Finding]]:
        return {"Disk": self._disk(), "Storage": self._blocking()}

    def with_one_that_crashes(self, _settings: Settings) -> Mapping[str, AsyncIterator[Finding]]:
        return {"Redis": self._crashing(), "Disk": self._disk()}

    async def _disk(self) -> AsyncIterator[Finding]:
        self.made += 1
        yield Finding("Disk", "ok", f"look {self.made}")

    async def _waiting(self) -> AsyncIterator[Finding]:
        yield Finding("Catalog", "ok", "it is there")
        await asyncio.Event().wait()

    async def _blocking(self) -> AsyncIterator[Finding]:
        self.released.wait(20)  # as a file system that hangs
        yield Finding("Storage", "ok", "it is there again")

    async def _crashing(self) -> AsyncIterator[Finding]:
        yield Finding("Redis", "ok", "answers")
        raise ZeroDivisionError("a secret")


@pytest.fixture
def checks() -> Iterator[CountedChecks]:
    checks = CountedChecks()
    yield checks
    checks.released.set()


def checkups_of(
    topics: Topics, *, kept_s: float = 60, again_s: float = 60, patience_s: float = 5
) -> Checkups:
    return Checkups(Settings(), topics, kept_s, again_s, patience_s)


async def test_all_who_ask_at_once_share_one_checkup_which_is_kept(checks: CountedChecks) -> None:
    checkups = checkups_of(checks.well)
    assert checkups.last is None

    found = await asyncio.gather(*(checkups.latest() for _ in range(5)), return_exceptions=True)

    assert [*found, await checkups.latest(), await checkups.latest(again=True)] == [checkups.last] * 7
    assert checkups.last is not None
    assert [one.detail for one in checkups.last.findings] == ["look 1"]


async def test_who_asks_again_gets_new_findings_sooner(checks: CountedChecks) -> None:
    checkups = checkups_of(checks.well, again_s=0)

    looks = [(await checkups.latest(again=again)).findings[0].detail for again in (False, False, True)]

    assert looks == ["look 1", "look 1", "look 2"]


async def test_a_checkup_goes_on_for_others_when_one_who_asked_goes_away(checks: CountedChecks) -> None:
    checkups = checkups_of(checks.well)
    asking, other = (asyncio.create_task(checkups.latest()) for _ in range(2))
    await asyncio.sleep(0)
    asking.cancel()

    assert (await other).findings[0].detail == "look 1"


async def test_what_does_not_answer_in_time_is_an_error_beside_what_was_found(checks: CountedChecks) -> None:
    checkups = checkups_of(checks.with_one_that_waits, patience_s=0.05)

    found = (await checkups.latest()).findings

    assert [(one.what, one.level) for one in found] == [
        ("Disk", "ok"),
        ("Catalog", "ok"),
        ("Catalog", "error"),
    ]
    assert "no answer" in found[-1].detail


async def test_what_blocks_its_thread_holds_up_nobody_and_is_not_begun_once_more(
    checks: CountedChecks,
) -> None:
    checkups = checkups_of(checks.with_one_that_blocks, kept_s=0, patience_s=0.05)
    first, second = await checkups.latest(), await checkups.latest()

    assert [one.what for one in first.findings if one.level == "error"] == ["Storage"]
    assert (second.ended, checks.made) == (first.ended, 1)
    checks.released.set()
    async with asyncio.timeout(10):
        while any(one.level == "error" for one in (await checkups.latest()).findings):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # its thread ends
    assert checks.made == 2


async def test_a_check_that_crashes_hides_nothing_else_and_shows_no_values(checks: CountedChecks) -> None:
    found = (await checkups_of(checks.with_one_that_crashes).latest()).findings

    assert [one.what for one in found] == ["Redis", "Redis", "Disk"]
    assert found[1] == Finding("Redis", "error", "the check failed: ZeroDivisionError")
