"""What `media sweep` refuses to understand."""

import pytest
from typer.testing import CliRunner

from scripts.sweep import app

PLAN = "sweep-20261121T100000-00000000"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([PLAN], "No such command"),  # it would apply a plan that nobody said to apply
        (["--apply", PLAN], "No such command"),
        (["apply"], "PLAN"),
        (["--verify", "--apply"], "exclude each other"),
        (["--verify", "restore", PLAN], "--verify cannot stand before restore"),
        (["--json", "--rate", "3", "purge"], "--rate, --json cannot stand before purge"),
    ],
)
def test_words_that_do_not_belong_together_are_bad_usage(words: list[str], reason: str) -> None:
    ended = CliRunner().invoke(app, words)

    assert ended.exit_code == 2
    assert reason in ended.output
