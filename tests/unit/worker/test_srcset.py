"""`srcset`: which variants of an upload an `<img>` is given, and under which links."""

import pytest

from storage.catalog.records import Original, StoredVariant
from worker.srcset import lasting_link, srcset

ORIGINAL = Original("stamp", "b" * 64, 1000, "jpeg", 4000, 3000)


def variant(
    width: int, height: int, size: int | None = None, ending: str = "jpg", name: str = "v"
) -> StoredVariant:
    key = f"variants/{name}-{width}.{ending}"
    return StoredVariant(name, key, width, height, width * height if size is None else size, "a" * 64)


def said(*variants: StoredVariant, original: Original | None = ORIGINAL) -> str:
    return srcset(variants, original, lambda key: key.removeprefix("variants/"))


def test_each_variant_is_there_with_its_width_the_narrowest_first() -> None:
    found = said(variant(1920, 1440), variant(150, 113), variant(800, 600))

    assert found == "v-150.jpg 150w, v-800.jpg 800w, v-1920.jpg 1920w"


def test_of_those_that_are_equally_wide_the_smallest_in_bytes_is_there() -> None:
    small = Original("stamp", "b" * 64, 1000, "jpeg", 100, 75)
    sizes = ("a", 900), ("z", 700), ("y", 700), ("b", 701)
    equals = [variant(100, 75, size, name=name) for name, size in sizes]

    assert said(*equals, original=small) == "y-100.jpg 100w"


def test_a_square_that_was_cut_out_is_not_there_beside_whole_pictures() -> None:
    assert said(variant(150, 150), variant(800, 600)) == "v-800.jpg 800w"


def test_where_all_are_cut_those_like_the_largest_are_there() -> None:
    found = said(variant(64, 64), variant(256, 256), variant(300, 200, 1), variant(128, 128))

    assert found == "v-64.jpg 64w, v-128.jpg 128w, v-256.jpg 256w"


@pytest.mark.parametrize(
    ("width", "height", "of"),
    [
        (150, 113, (4000, 3000)),
        (113, 150, (3000, 4000)),
        (800, 1, (5000, 3)),
        (150, 1, (5000, 3)),
        (1, 1920, (1, 16_000)),
        (333, 250, (333, 250)),
        (150, 150, (1000, 999)),  # cut or not, it looks the same
        (16, 1, (16_000, 100)),  # a side of less than half a pixel is one all the same
        (1, 16, (100, 16_000)),
    ],
)
def test_rounding_is_no_other_proportion(width: int, height: int, of: tuple[int, int]) -> None:
    original = Original("stamp", "b" * 64, 1000, "jpeg", *of)

    assert said(variant(width, height), variant(3000, 3000), original=original) == f"v-{width}.jpg {width}w"


def test_formats_are_not_mixed_for_a_browser_cannot_choose_by_them() -> None:
    wider = [variant(width, width * 3 // 4, ending="webp") for width in (200, 400, 800)]
    jpegs = [variant(width, width * 3 // 4) for width in (200, 400)]

    assert said(*wider, *jpegs) == "v-200.webp 200w, v-400.webp 400w, v-800.webp 800w"


def test_a_format_is_not_chosen_for_having_the_same_width_twice() -> None:
    webps = [variant(400, 300, ending="webp", name=name) for name in ("a", "b", "c")]
    jpegs = [variant(width, width * 3 // 4) for width in (200, 400)]

    assert said(*webps, *jpegs) == "v-200.jpg 200w, v-400.jpg 400w"


@pytest.mark.parametrize(
    ("endings", "chosen"), [(("avif", "webp", "jpg"), "jpg"), (("avif", "webp"), "webp")]
)
def test_of_formats_with_as_many_widths_the_one_that_more_browsers_show_is_there(
    endings: tuple[str, ...], chosen: str
) -> None:
    found = said(*(variant(200, 150, size, ending) for size, ending in enumerate(endings)))

    assert found == f"v-200.{chosen} 200w"


def test_without_variants_it_is_empty_and_without_an_original_the_largest_counts() -> None:
    assert said() == ""
    assert said(variant(150, 150), variant(800, 600), original=None) == "v-800.jpg 800w"


@pytest.mark.parametrize(
    ("url", "files", "expected"),
    [
        ("https://media.example.com", "public", "https://media.example.com/files/variants/a.jpg"),
        ("https://media.example.com", "signed", "variants/a.jpg"),  # a message outlives a signature
        ("", "public", "variants/a.jpg"),
    ],
)
def test_a_message_has_links_where_they_last_and_are_known_else_keys(
    url: str, files: str, expected: str
) -> None:
    assert lasting_link(url, files)("variants/a.jpg") == expected
