"""Libraries are loaded without parts that nobody uses here."""

import subprocess
import sys

import pytest

from storage.loading import without

LOGS = """
from storage.loading import without
with without("rich"):
    import structlog
import sys
from worker.logs import configure_logs
configure_logs("console")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("here").exception("failed", by="zero")
print([name for name in ("rich", "pygments") if name in sys.modules])
import rich
"""


def test_a_library_cannot_be_imported_in_the_body_but_can_be_after_it() -> None:
    sys.modules.pop("this", None)
    with without("this"), pytest.raises(ImportError):
        import this  # noqa: F401
    assert "this" not in sys.modules


def test_a_library_that_is_loaded_stays_so() -> None:
    with without("json"):
        import json
    assert sys.modules["json"] is json


def test_logs_for_people_need_no_rich() -> None:
    ran = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert "failed" in ran.stderr
    assert "ZeroDivisionError: division by zero" in ran.stderr
