"""The log's way to standard error: who logs never waits for a reader that is slow, frozen or gone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

import orjson
import pytest

LOGS = """
import sys, structlog
from worker.logs import configure_logs
configure_logs("json")
log = structlog.get_logger()
for number in range(int(sys.argv[1])):
    log.info("line", number=number, text="x" * 1000)
print("went on", flush=True)
input()
"""
LOGS_ODD_VALUES = """
import sys, structlog
from worker.logs import configure_logs
class NoWords:
    def __str__(self):
        raise ValueError("it has no words")
    __repr__ = __str__
deep = []
for _ in range(100_000):
    deep = [deep]
configure_logs(sys.argv[1])
log = structlog.get_logger()
odd = ["caf\\udce9.jpg", 2**64, {1: "one"}, {"\\udce9": 1}, {2, 3}, b"\\xff", NoWords(), deep]
for number, value in enumerate(odd):
    log.info("odd", number=number, value=value)
log.info("odd", number=len(odd), value=0)
while deep:
    deep = deep.pop()
"""
MANY, FEW = 3_000, 900  # more than wait for a reader, and less
Process = subprocess.Popen[str]
Pipe = tuple[IO[bytes], IO[bytes]]  # where one reads, and where one writes


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ours, theirs = os.pipe()
    with open(ours, "rb") as reader, open(theirs, "wb", buffering=0) as writer:
        yield reader, writer


def start(lines: int, stderr: int | IO[bytes], **options: Any) -> Process:
    command = [sys.executable, "-c", LOGS, str(lines)]
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=stderr, text=True, **options)


def end(process: Process) -> tuple[str, int]:
    out, _ = process.communicate("\n", timeout=30)
    return out, process.returncode


def read_late(process: Process, pipe: Pipe) -> list[dict[str, Any]]:
    """All that it has written, read when it has logged everything and is about to end."""
    reader, writer = pipe
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "went on\n"
        writer.close()
        process.stdin.write("\n")
        process.stdin.close()
        return [json.loads(line) for line in reader]


def test_what_is_logged_at_the_end_is_still_written(pipe: Pipe) -> None:
    lines = read_late(start(FEW, pipe[1]), pipe)

    assert [line["number"] for line in lines] == list(range(FEW))


def test_what_a_frozen_reader_misses_is_counted_and_logged_when_it_reads_on(pipe: Pipe) -> None:
    lines = read_late(start(MANY, pipe[1]), pipe)

    numbers = [line["number"] for line in lines if line["event"] == "line"]
    [dropped] = [line["count"] for line in lines if line["event"] == "log_lines_dropped"]
    assert numbers == sorted({*numbers})
    assert numbers[:100] == list(range(100))  # later ones are missed wherever there was no room just then
    assert len(numbers) + dropped == MANY


def test_a_reader_who_never_reads_keeps_nobody_from_ending(pipe: Pipe) -> None:
    assert end(start(MANY, pipe[1])) == ("went on\n", 0)


def test_a_reader_who_is_gone_keeps_nobody_from_going_on(pipe: Pipe) -> None:
    pipe[0].close()

    assert end(start(MANY, pipe[1])) == ("went on\n", 0)


def test_a_standard_error_that_is_closed_keeps_nobody_from_going_on() -> None:
    assert end(start(FEW, subprocess.DEVNULL, preexec_fn=lambda: os.close(2))) == ("went on\n", 0)


def test_a_standard_error_that_does_not_block_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe[1].fileno(), False)
    lines = read_late(start(FEW, pipe[1]), pipe)

    assert [line["number"] for line in lines] == list(range(FEW))


def test_a_value_that_cannot_be_written_ends_nobody_and_costs_at_most_its_own_line() -> None:
    lines = _odd_lines("json")
    read = [orjson.loads(line) for line in lines]

    assert len(read) == 9
    assert [line["number"] for line in read if line["event"] == "odd"] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert read[0]["value"] == "caf\\udce9.jpg"
    assert (read[7]["event"], read[7]["level"]) == ("log_line_failed", "error")


def test_a_value_that_has_no_words_ends_nobody_on_a_terminal() -> None:
    assert "number=8" in _odd_lines("console")[-1]


def _odd_lines(style: str) -> list[str]:
    command = [sys.executable, "-c", LOGS_ODD_VALUES, style]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr[-2000:]
    return done.stderr.splitlines()
