"""docs/security.md: each promise of the threat model is shown by tests, and reports have a way to us."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/security.md").read_text("utf-8")
MODEL = PAGE.partition("## The threat model")[2].partition("\n## ")[0]
ADVERSARIES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", MODEL, re.MULTILINE | re.DOTALL))
SHOWN = re.findall(r"\[([^\]]+)\]\(\.\./(tests/[^)]+)\)", MODEL)


@pytest.mark.parametrize(("sentence", "file"), SHOWN)
def test_what_shows_a_promise_is_a_test_of_that_name(sentence: str, file: str) -> None:
    assert f"def test_{sentence.replace(' ', '_')}(" in (ROOT / file).read_text("utf-8")


def test_each_adversary_has_promises_and_what_is_not_promised() -> None:
    assert list(ADVERSARIES) == [
        "A hostile uploader",
        "A decoder that was taken over",
        "An app",
        "A neighbour on Redis",
        "The operator",
    ]
    assert all("Not promised:" in text for text in ADVERSARIES.values())


@pytest.mark.parametrize("name", ADVERSARIES)
def test_each_promise_names_what_keeps_it_and_the_test_that_shows_it(name: str) -> None:
    rows = [line.strip("|").split("|") for line in ADVERSARIES[name].splitlines() if line.startswith("| ")]
    header, *promises = [row for row in rows if not set("".join(row)) <= set("-")]

    assert [cell.strip() for cell in header] == ["what is promised", "by", "shown by"]
    assert len(promises) > 2
    assert all(by.strip() and "](../tests/" in shown for _, by, shown in promises)


def test_who_has_found_a_flaw_reads_how_to_report_it_and_what_nobody_is_bound_to() -> None:
    policy = (ROOT / "SECURITY.md").read_text("utf-8")

    assert "private security advisories" in policy
    assert "what we aim at, not a contract" in policy
    assert "answer within a week" in policy
    assert "## Supported versions" in policy
    assert "docs/security.md#the-threat-model" in policy
    assert "SECURITY.md" in (ROOT / "README.md").read_text("utf-8")
    assert not re.search(r"[\w.]+@[\w.]+\.\w+", policy)  # nobody is promised to be there
