"""Who sweeps here, and whether somebody who did has surely ended."""

import os
import subprocess

import pytest

from worker.sweeping import holder_of, is_dead


@pytest.fixture
def ended() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_a_process_that_has_ended_is_dead_and_one_that_runs_is_not(ended: int) -> None:
    assert [is_dead(holder_of(pid)) for pid in (ended, os.getpid(), 1)] == [True, False, False]


def test_nobody_knows_whether_a_process_of_another_container_has_ended(
    ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = holder_of(ended)
    monkeypatch.setattr(os, "readlink", lambda _path: "pid:[4026532999]")  # as it is in there
    there = holder_of(ended)
    judged_there = is_dead(here)
    monkeypatch.undo()

    assert (is_dead(here), is_dead(there), judged_there) == (True, False, False)


def test_where_namespaces_cannot_be_told_apart_nobody_is_surely_dead(
    ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_path: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "readlink", unknown)

    assert not is_dead(holder_of(ended))


@pytest.mark.parametrize("holder", ["", "me", f"{os.uname().nodename}:1:abc", "a:b:c:d"])
def test_who_is_not_known_is_not_dead(holder: str) -> None:
    assert not is_dead(holder)
