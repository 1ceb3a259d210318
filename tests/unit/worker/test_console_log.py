"""The log for people: what strangers wrote is escaped, whoever logs it, and no local variable is shown."""

import subprocess
import sys

import pytest

LOGS = r"""
import logging, structlog
from worker.logs import configure_logs

def fail():
    password = "hunter2"
    raise ValueError("\x1b[31mred\u202e")

configure_logs("console")
log = structlog.get_logger("worker")
arq = logging.getLogger("arq.worker")
name = "\x1b]0;pwned\x07\nFALSE LINE"
log.warning("ours", name=name)
arq.warning("job %s expired", name)
for logs in (log, arq):
    try:
        fail()
    except ValueError:
        logs.exception("job failed")
"""


@pytest.fixture(scope="module")
def lines() -> list[str]:
    ended = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    return ended.stderr.split("\n")


def test_the_lines_of_other_libraries_are_escaped_like_ours(lines: list[str]) -> None:
    assert not any(character in "".join(lines) for character in "\x1b\x07\u202e")
    assert not any(line.startswith("FALSE LINE") for line in lines)
    assert any(r"job \x1b]0;pwned\x07\nFALSE LINE expired" in line for line in lines)


def test_a_traceback_has_no_local_variables(lines: list[str]) -> None:
    assert "hunter2" not in "".join(lines)
    assert [line for line in lines if line.startswith("ValueError")] == [r"ValueError: \x1b[31mred\u202e"] * 2
