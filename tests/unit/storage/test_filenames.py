"""Filenames: an app's own name of a file, and when people are shown it."""

from typing import Any

import pytest

from storage.filenames import filename_in, name_for_people

HASHED = f"uploads/cli/ab/{'ab' * 32}.jpg"
NUMBERED = "uploads/http/4a/4a2ca705-03aa-42b8-a8b8-e2aa1374070e.jpg"


@pytest.mark.parametrize(
    ("metadata", "others", "expected"),
    [
        ({"filename": "Beach.jpg"}, [], "Beach.jpg"),
        ({"filename": " Beach.jpg\n"}, [], "Beach.jpg"),
        ({"filename": "x" * 500}, [], "x" * 200),
        ({"name": "Beach.jpg"}, ["name"], "Beach.jpg"),
        ({"name": "Ada"}, [], None),
        ({"filename": "", "name": "b.jpg"}, ["name"], "b.jpg"),
        ({"filename": 7}, [], None),
        ({"filename": {"a": "b"}}, [], None),
        ({}, ["name"], None),
    ],
)
def test_a_filename_is_a_text_in_its_field(
    metadata: dict[str, Any], others: list[str], expected: str | None
) -> None:
    assert filename_in(metadata, *others) == expected


@pytest.mark.parametrize(
    ("source", "filename", "expected"),
    [
        (HASHED, "Beach.jpg", "Beach.jpg"),
        (HASHED.removesuffix(".jpg"), "Beach.jpg", "Beach.jpg"),
        (NUMBERED, "Beach.jpg", "Beach.jpg"),
        (HASHED, None, HASHED),
        ("uploads/2026/cat.jpg", "Beach.jpg", "uploads/2026/cat.jpg"),
        (None, "Beach.jpg", "Beach.jpg"),
        (None, None, None),
    ],
)
def test_people_are_shown_a_filename_instead_of_a_hash(
    source: str | None, filename: str | None, expected: str | None
) -> None:
    assert name_for_people(source, filename) == expected
