"""The driver's own eyes: what it makes of tracebacks in the logs, and of sweeps that fail."""

import json
import traceback

import pytest

from storage.errors import CatalogUnavailable
from tests.chaos.__main__ import what_is_wrong
from tests.chaos.driver import Report
from tests.chaos.tracebacks import unexplained


def _logged(error: Exception) -> str:
    """A line of a worker's log about `error`, whose cause was another."""
    error.__cause__ = KeyError("cause")
    answer = "".join(traceback.format_exception(error))
    return json.dumps({"event": "batch_stopped", "exception": answer})


def test_a_traceback_is_reported_unless_a_fault_explains_it() -> None:
    log = ['{"event": "batch"}', _logged(CatalogUnavailable("locked"))]

    assert unexplained(log, {"lock_catalog"}) == []
    [answer] = unexplained(log, {"cut"})
    assert answer.endswith("storage.errors.CatalogUnavailable: locked\n")


def test_no_fault_explains_a_mistake_of_ours() -> None:
    everything = {"arm", "cut", "forget", "freeze", "kill", "kill_decoder", "lock_catalog", "refuse"}

    assert len(unexplained([_logged(TypeError("no"))], everything)) == 1


@pytest.mark.parametrize(("inner", "count"), [(CatalogUnavailable("locked"), 0), (TypeError("no"), 1)])
def test_of_a_group_the_error_within_counts(inner: Exception, count: int) -> None:
    log = [_logged(ExceptionGroup("unhandled errors", [inner]))]

    assert len(unexplained(log, {"lock_catalog"})) == count


def test_a_traceback_that_no_logger_has_caught_is_reported() -> None:
    bare = ["Traceback (most recent call last):", '  File "main.py", line 1, in run', "ValueError: no"]

    assert unexplained(['{"event": "batch"}', *bare, '{"event": "batch"}'], ()) == ["\n".join(bare)]
    assert unexplained(["some library says: this is deprecated"], ()) == []


def test_a_run_with_an_unexplained_traceback_or_a_failed_sweep_is_red() -> None:
    quiet = Report(memory_kib=[1] * 8, descriptors=[1] * 8)
    odd = Report(memory_kib=[1] * 8, descriptors=[1] * 8, tracebacks=["TypeError: no"])
    untidy = Report(memory_kib=[1] * 8, descriptors=[1] * 8, failed_sweeps=["1: no such table"])

    assert what_is_wrong(quiet) == []
    assert what_is_wrong(odd) == ["tracebacks that no fault explains: ['TypeError: no']"]
    assert what_is_wrong(untidy) == ["sweeps that failed: ['1: no such table']"]
