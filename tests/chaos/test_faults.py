"""Every fault that this worker is to survive: tests are marked with its number, `@pytest.mark.fault(1)`."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
_MARKED = re.compile(r"@pytest\.mark\.fault\(([\d, ]+)\)")

FAULTS: dict[int, str] = {
    1: "A worker is killed at any step",
    2: "A decoder is killed",
    3: "A picture crashes each decoder",
    4: "A decoder takes too much memory",
    5: "A decoder takes too long",
    6: "SIGTERM while jobs run",
    7: "Twenty deploys in a row",
    8: "SIGTERM while a job starts",
    9: "SIGTERM twice, or while Redis hangs",
    10: "A worker freezes for long",
    11: "The event loop is blocked for long",
    12: "Redis is killed, refuses, hangs",
    13: "Redis goes while a job finishes",
    14: "Redis loses everything",
    15: "Connections are cut all the time",
    16: "Transactions are cut, replies are lost",
    17: "Redis is out of memory",
    18: "Redis cannot save, or is a replica",
    19: "Redis evicts, or has no file",
    20: "Malformed events and jobs",
    21: "Hostile ids, scores and types in the queue",
    22: "A job without its payload",
    23: "The same event again, at once, while it runs",
    24: "Dead ids at the head of the queue",
    25: "A job expires",
    26: "An error that stays",
    27: "Two sweepers at once",
    28: "Clocks differ",
    29: "Another program locks the catalog",
    30: "Postgres restarts, is killed, has no connection left",
    31: "A commit fails, or its reply is lost",
    32: "The disk is full at any write",
    33: "The disk fails at any write",
    34: "The power goes",
    35: "The storage is read-only, denied or gone",
    36: "S3 fails, is slow, or lies",
    37: "The original goes or changes",
    38: "Bombs",
    39: "Truncated pictures",
    40: "What is no picture",
    41: "Mutated pictures",
    42: "Unusual pictures",
    43: "Links, pipes and hostile names",
    44: "A sweep between file and row",
    45: "A sweep while a writer is frozen",
    46: "A file with an old date arrives",
    47: "A sweep beside an empty catalog, or half a listing",
    48: "An implausible plan",
    49: "One orphan among everything else",
    50: "A sweep that is killed, a purge that finds more than it should",
    51: "The lease of a sweeper is lost",
    52: "Stats beside writers",
    53: "A batch with bad pictures in it",
    54: "Everything at once",
    55: "An older worker beside a newer one",
    56: "A worker that hangs or stalls",
    57: "Another redis-py, inherited settings",
    58: "A host is cut off from everything, and comes back",
}


def test_every_fault_has_a_test() -> None:
    marked = {
        int(number)
        for path in TESTS.rglob("test_*.py")
        for numbers in _MARKED.findall(path.read_text("utf-8"))
        for number in numbers.split(",")
    }

    assert marked == FAULTS.keys()
    assert sorted(FAULTS) == list(range(1, 59))
