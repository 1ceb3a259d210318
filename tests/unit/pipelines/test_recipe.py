"""Recipes: names that never move, fingerprints of what changes bytes, and sizes to the pixel."""

from dataclasses import fields, replace
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.recipe import BUILT_IN, DEFAULT, Recipe, Variant, digest_of

CAT = UUID("4a2ca705-03aa-52b8-a8b8-e2aa1374070e")
OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
THUMB, MEDIUM, LARGE = DEFAULT.variants

SIDES = st.integers(1, 20_000)


def test_the_names_of_variants_are_those_that_other_programs_derive() -> None:
    assert uuid5(NAMESPACE_URL, "media:uploads/2026/11/cat.jpg") == CAT
    assert THUMB.fingerprint == "d35a8e9f411e0084"
    assert THUMB.uuid(CAT, OF_NOTHING) == UUID("b2bf9aec-d6b9-5c89-90b6-5217b806b15f")


def test_the_default_recipe_makes_three_jpegs() -> None:
    made = [(each.name, each.box, each.fit, each.format, each.quality) for each in DEFAULT.variants]

    assert made == [
        ("thumb", 150, "inside", "jpeg", 80),
        ("medium", 800, "inside", "jpeg", 80),
        ("large", 1920, "inside", "jpeg", 80),
    ]
    assert BUILT_IN == {"default": DEFAULT}


def test_fields_that_came_later_change_no_name_at_their_defaults() -> None:
    # Of all fields, the first way of naming: JSON of v, box, fit, format and quality.
    assert Variant("square", 64, "cover", "webp", 75).fingerprint == "f43a9e1a0ae539dc"
    assert Variant("square", 64, "cover", "jpeg", 75).fingerprint == "b967afd20a95843c"


OTHERWISE: dict[str, object] = {
    "box": 151,
    "fit": "cover",
    "format": "webp",
    "quality": 81,
    "background": (0, 0, 0),
    "progressive": True,
    "subsampling": "4:4:4",
    "crop": "attention",
    "effort": "small",
}


@pytest.mark.parametrize("field", [field.name for field in fields(Variant) if field.name != "name"])
def test_whatever_changes_the_bytes_changes_the_fingerprint(field: str) -> None:
    other = replace(THUMB, **{field: OTHERWISE[field]})  # type: ignore[arg-type]

    assert other.fingerprint != THUMB.fingerprint


def test_a_name_is_not_in_the_fingerprint_but_in_the_variants_name() -> None:
    renamed = replace(THUMB, name="small")

    assert renamed.fingerprint == THUMB.fingerprint
    assert renamed.uuid(CAT, OF_NOTHING) != THUMB.uuid(CAT, OF_NOTHING)


def test_other_content_or_another_upload_gives_another_name() -> None:
    names = {
        THUMB.uuid(upload, content) for upload in (CAT, UUID(int=1)) for content in (OF_NOTHING, "a" * 64)
    }

    assert len(names) == 4


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        ((4000, 3000), (150, 113)),  # 112.5 is rounded up
        ((3000, 4000), (113, 150)),
        ((150, 150), (150, 150)),
        ((149, 20), (149, 20)),
        ((151, 1), (150, 1)),
        ((20_000, 1), (150, 1)),
        ((1, 20_000), (1, 150)),
        ((300, 1), (150, 1)),  # 0.5
        ((300, 2), (150, 1)),
        ((300, 3), (150, 2)),  # 1.5
    ],
)
def test_a_thumb_fits_its_box_and_is_never_enlarged(
    original: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert THUMB.size_of(*original) == expected


@pytest.mark.parametrize(
    ("original", "expected"),
    [((400, 300), (100, 100)), ((400, 50), (100, 50)), ((50, 30), (50, 30)), ((100, 100), (100, 100))],
)
def test_a_variant_that_covers_its_box_is_cropped_and_never_enlarged(
    original: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert Variant("square", 100, fit="cover").size_of(*original) == expected


@given(SIDES, SIDES, st.integers(1, 4000), st.sampled_from(["inside", "cover"]))
def test_every_size_is_at_least_a_pixel_and_at_most_box_and_original(
    width: int, height: int, box: int, fit: str
) -> None:
    made = Variant("any", box, fit=fit).size_of(width, height)  # type: ignore[arg-type]

    assert 1 <= made[0] <= min(width, box)
    assert 1 <= made[1] <= min(height, box)


@given(SIDES, SIDES)
def test_a_picture_on_its_side_gets_the_size_on_its_side(width: int, height: int) -> None:
    assert MEDIUM.size_of(height, width) == MEDIUM.size_of(width, height)[::-1]


@given(SIDES, SIDES)
def test_proportions_are_kept_to_half_a_pixel(width: int, height: int) -> None:
    made = LARGE.size_of(width, height)
    exact = min(1.0, 1920 / max(width, height))

    assert abs(made[0] - max(1.0, width * exact)) < 0.5001
    assert abs(made[1] - max(1.0, height * exact)) < 0.5001


def test_a_digest_of_recipes_changes_with_whatever_one_of_them_makes() -> None:
    larger = replace(DEFAULT.variants[0], box=151)
    others = (replace(DEFAULT, variants=(larger,)), replace(DEFAULT, placeholder="none"))
    books = [BUILT_IN, *({"default": one} for one in others), {**BUILT_IN, "new": Recipe("new", (larger,))}]

    assert len({digest_of(book) for book in books}) == 4


def test_neither_the_order_of_recipes_nor_of_their_variants_is_in_their_digest() -> None:
    book = {**BUILT_IN, "new": Recipe("new", DEFAULT.variants[:1])}
    backwards = {"default": replace(DEFAULT, variants=DEFAULT.variants[::-1])}

    assert digest_of(book) == digest_of(dict(reversed([*book.items()])))
    assert digest_of(BUILT_IN) == digest_of(backwards)
