"""Keys: composed and parsed in one place, and refused in words."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import KeyRefused
from storage.keys import (
    EXTENSIONS,
    behind_folder,
    deletion_folder,
    is_deletion_folder,
    is_plan_name,
    is_plan_part,
    owner_of_source,
    parse_variant_key,
    plan_key,
    plan_part_key,
    segments,
    source_key,
    trash_folder,
    trash_key,
    variant_key,
)

NAME = UUID("67c6e2a2-cfa4-5a7e-aa92-c4f3bd948e6d")
PLAN = "sweep-20261128T231500-0123abcd"


def test_a_variants_key_begins_with_its_names_first_digits() -> None:
    assert variant_key(NAME, "jpeg") == f"variants/67/c6/{NAME}.jpg"


@given(st.uuids(), st.sampled_from(sorted(EXTENSIONS)))
def test_the_name_in_a_variants_key_can_be_read_again(name: UUID, output_format: str) -> None:
    assert parse_variant_key(variant_key(name, output_format)) == name


@pytest.mark.parametrize(
    "key",
    [
        f"variants/67/c7/{NAME}.jpg",
        f"variants/67/c6/{NAME}.jpeg",
        f"variants/67/c6/{str(NAME).upper()}.jpg",
        f"variants/67/c6/{NAME}.jpg\n",
        f"trash/plan/variants/67/c6/{NAME}.jpg",
        f"variants/67/c6/{NAME}",
        "variants/67/c6/README.jpg",
        "",
    ],
)
def test_what_no_variant_is_called_has_no_name_in_it(key: str) -> None:
    assert parse_variant_key(key) is None


@given(st.text())
def test_any_text_is_either_a_key_or_refused(text: str) -> None:
    try:
        parts = segments(text)
    except KeyRefused:
        return
    assert "/".join(parts) == text
    assert all(part not in ("", ".", "..") and "\0" not in part for part in parts)


def test_a_source_may_have_1024_bytes() -> None:
    longest = "uploads/" + "/".join(["a" * 253] * 4)

    assert len(source_key(longest)) == 1023
    with pytest.raises(KeyRefused, match="more than 1024 bytes"):
        source_key(longest + "/a")


@pytest.mark.parametrize("source", ["", "uploads", "Uploads/a", "/uploads/a", "variants/a", " uploads/a"])
def test_a_source_lies_in_uploads(source: str) -> None:
    with pytest.raises(KeyRefused, match="must start with uploads/"):
        source_key(source)


def test_the_longest_source_still_has_a_place_in_the_trash() -> None:
    longest = "uploads/" + "/".join(["a" * 253] * 4)

    assert segments(trash_key(f"delete-{NAME}", longest))[0] == "trash"


def test_what_a_plan_writes_lies_beside_what_it_moves_and_only_its_parts_are_parts() -> None:
    head, part, moved = plan_key(PLAN), plan_part_key(PLAN, 7), trash_key(PLAN, variant_key(NAME, "jpeg"))

    assert (head, part) == (f"trash/{PLAN}/plan.json", f"trash/{PLAN}/plan-000007.jsonl")
    assert [trash_folder(key) for key in (head, part, moved)] == [PLAN] * 3
    assert [is_plan_part(key) for key in (head, part, moved)] == [False, True, False]


def test_a_deletion_is_no_plan_and_a_plan_no_deletion() -> None:
    folder = deletion_folder(NAME, 2)

    assert folder == f"delete-{NAME}-2"
    assert (is_deletion_folder(folder), is_deletion_folder(PLAN)) == (True, False)
    assert (is_plan_name(folder), is_plan_name(PLAN), is_plan_name(f"../{PLAN}")) == (False, True, False)


def test_every_key_of_a_folder_of_the_trash_comes_before_its_end_and_the_next_folder_behind() -> None:
    end = behind_folder(f"trash/{PLAN}")

    assert trash_key(PLAN, "\U0010ffff") < end <= trash_key(f"{PLAN}0", "")


@pytest.mark.parametrize(
    ("source", "owner"),
    [("uploads/a.jpg", ""), ("uploads/a/b.jpg", "a"), ("uploads/a/b/c.jpg", "a"), (None, "")],
)
def test_the_first_folder_below_uploads_owns_an_original(source: str | None, owner: str) -> None:
    assert owner_of_source(source) == owner
