"""What is said of a Redis that works and would still let somebody down."""

from pathlib import Path

import pytest

from pipelines.dropped_variants import DroppedVariant
from worker.findings import inspect_recipes, inspect_redis
from worker.queue import ServerInfo
from worker.settings import Settings


@pytest.mark.parametrize(("largest", "level"), [(1 << 20, "ok"), (8 << 20, "ok"), (512 << 20, "warning")])
def test_a_redis_that_takes_huge_values_is_warned_of(largest: int, level: str) -> None:
    info = ServerInfo("7.2.4", "master", True, "noeviction", largest, 0)
    [found] = [one for one in inspect_redis(info) if one.what == "Redis values"]

    assert found.level == level
    assert ("proto-max-bulk-len" in (found.advice or "")) == (level == "warning")


def test_of_a_redis_that_does_not_say_how_large_a_value_may_be_nothing_is_said_of_values() -> None:
    info = ServerInfo("7.2.4", "master", True, "noeviction", None, 0)

    assert "Redis values" not in [one.what for one in inspect_redis(info)]


def test_a_default_recipe_that_drops_a_built_in_size_is_warned_of(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes.toml"
    recipes.write_text("[default.xlarge]\nbox = 2560\n")
    dropping = inspect_recipes(Settings(recipes=recipes))
    recipes.write_text('[default]\nextends = "default"\n\n[default.xlarge]\nbox = 2560\n')
    extending = inspect_recipes(Settings(recipes=recipes))

    assert dropping.level == "warning"
    assert dropping.detail == f"the default in {recipes} makes no thumb, medium, large"
    assert dropping.advice == (
        'To keep them: extends = "default" in its table [default]; to drop them: thumb = false there.'
    )
    assert extending.level == "ok"


def test_variants_that_the_file_says_are_not_made_are_no_finding(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes.toml"
    recipes.write_text("[default]\nthumb = {box = 150}\nmedium = false\nlarge = false\nwide = false\n")
    dropped = [
        DroppedVariant("default", "large", 12, is_all=True),
        DroppedVariant(None, "wide", 1, is_all=True),
    ]
    found = inspect_recipes(Settings(recipes=recipes), dropped)

    assert (found.level, found.detail) == ("ok", "default")


def test_dropped_variants_are_told_by_recipe_and_name_with_how_many_uploads_have_them(
    tmp_path: Path,
) -> None:
    recipes = tmp_path / "recipes.toml"
    recipes.write_text("[default.thumb]\nbox = 150\n[avatar.big]\nbox = 512\n")
    dropped = [
        DroppedVariant("default", "large", 1204, is_all=True),
        DroppedVariant("avatar", "small", 1, is_all=False),
        DroppedVariant(None, "wide", 12, is_all=True),
    ]
    found = inspect_recipes(Settings(recipes=recipes), dropped)

    assert found.level == "warning"
    assert found.detail == (
        f"the default in {recipes} makes no medium; default makes no large any more, as about 1204 uploads "
        "have; avatar makes no small any more, as at least 1 upload has; no recipe makes wide any more, as "
        "about 12 uploads have"
    )
    assert "media reprocess --stale" in (found.advice or "")


def test_a_recipe_that_is_gone_is_one_finding_and_the_advice_is_true_of_it() -> None:
    dropped = [DroppedVariant("avatar", name, 2, is_all=True) for name in ("square", "tall", "wide")]
    found = inspect_recipes(Settings(), [*dropped, DroppedVariant("cover", "thumb", 1, is_all=False)])

    assert found.detail == (
        "the recipe avatar is gone, and about 2 uploads have its square, tall, wide; "
        "the recipe cover is gone, and at least 1 upload has its thumb"
    )
    assert "A recipe that has left the file is to be put back" in (found.advice or "")
    assert "--stale" not in (found.advice or "")


def test_a_variant_of_which_nobody_knows_the_recipe_has_an_advice_for_both_causes() -> None:
    found = inspect_recipes(Settings(), [DroppedVariant(None, "wide", 2, is_all=True)])

    assert found.detail == "no recipe makes wide any more, as about 2 uploads have"
    assert "a recipe had a table for it, or has left the file" in (found.advice or "")


def test_of_many_recipes_that_are_gone_the_first_are_named_and_the_others_counted() -> None:
    dropped = [DroppedVariant(f"r{number}", "thumb", 2, is_all=False) for number in range(7)]
    found = inspect_recipes(Settings(), dropped)

    assert "recipe r4 is gone" in found.detail
    assert "r5" not in found.detail
    assert found.detail.endswith("; and 2 more")


def test_of_several_variants_the_commonest_says_how_many_uploads_have_them() -> None:
    dropped = [DroppedVariant("avatar", f"v{number}", number, is_all=True) for number in (3, 9, 5)]

    assert "about 9 uploads have its v3, v9, v5" in inspect_recipes(Settings(), dropped).detail


def test_of_as_many_dropped_variants_as_are_named_nothing_is_left_out() -> None:
    dropped = [DroppedVariant("default", f"v{number}", 2, is_all=True) for number in range(5)]

    assert inspect_recipes(Settings(), dropped).detail.endswith("no v4 any more, as about 2 uploads have")


def test_of_many_dropped_variants_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    dropped = [DroppedVariant("default", f"v{number}", 2, is_all=True) for number in range(8)]
    found = inspect_recipes(Settings(), dropped)

    assert "v4" in found.detail
    assert "v5" not in found.detail
    assert found.detail.endswith("; and 3 more")


@pytest.mark.parametrize(
    ("table", "seconds"),
    [
        ("box = 4096\nformat = 'avif'", 19),
        ("box = 4300\nformat = 'avif'", 21),
        ("box = 2828\neffort = 'small'", 7),
        ("box = 16384\neffort = 'small'", 10),
        ("box = 2000\neffort = 'small'\nsubsampling = '4:4:4'\n[a.c]\nbox = 3651\nformat = 'avif'", 22),
    ],
)
def test_a_recipe_that_noise_would_not_be_encoded_by_in_time_is_warned_of(
    tmp_path: Path, table: str, seconds: int
) -> None:
    (tmp_path / "recipes.toml").write_text(f"[a.b]\n{table}\n")

    found = inspect_recipes(Settings(recipes=tmp_path / "recipes.toml"))

    told = f"a may take {seconds} s of CPU for a large picture of noise, and MEDIA_IMAGE_TIMEOUT is 20"
    assert (found.level, found.detail) == (("warning", told) if seconds > 20 else ("ok", "default, a"))
    assert ("Raise MEDIA_IMAGE_TIMEOUT" in (found.advice or "")) is (seconds > 20)
