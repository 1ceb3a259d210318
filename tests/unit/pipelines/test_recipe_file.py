"""Recipes as data: what a file may say, and how its mistakes are reported."""

from pathlib import Path

import pytest

from pipelines.recipe import DEFAULT, Variant, dropped_from_default
from pipelines.recipe_file import RecipeMistakes, load_recipes


def written(folder: Path, text: str) -> Path:
    path = folder / "recipes.toml"
    path.write_text(text)
    return path


def mistakes_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(RecipeMistakes) as caught:
        load_recipes(written(folder, text))
    return str(caught.value).splitlines()


def test_each_table_is_a_variant_of_the_recipe_it_names(tmp_path: Path) -> None:
    file = """
[avatar.small]
box = 64
fit = "cover"
quality = 70
format = "webp"
background = "#102030"

crop = "attention"

[avatar.large]
box = 512
progressive = true
subsampling = "4:4:4"
effort = "small"
"""

    recipes = load_recipes(written(tmp_path, file))

    assert recipes["avatar"].variants == (
        Variant("small", 64, "cover", "webp", 70, (16, 32, 48), crop="attention"),
        Variant("large", 512, progressive=True, subsampling="4:4:4", effort="small"),
    )


def test_the_default_recipe_stays_beside_those_of_the_file(tmp_path: Path) -> None:
    recipes = load_recipes(written(tmp_path, "[avatar]\nsmall = {box = 64}\n"))

    assert recipes["default"] == DEFAULT


def test_a_file_may_replace_the_default_recipe(tmp_path: Path) -> None:
    recipes = load_recipes(written(tmp_path, "[default.only]\nbox = 10\n"))

    assert recipes["default"].variants == (Variant("only", 10),)


def test_a_recipe_that_extends_another_has_its_variants_too(tmp_path: Path) -> None:
    file = """
[default]
extends = "default"

[default.xlarge]
box = 2560

[banner]
extends = "default"
thumb = {box = 100}

[again]
extends = "banner"
"""

    recipes = load_recipes(written(tmp_path, file))

    assert recipes["default"].variants == (*DEFAULT.variants, Variant("xlarge", 2560))
    assert set(recipes["banner"].variants) == {
        Variant("thumb", 100),
        *DEFAULT.variants[1:],
        Variant("xlarge", 2560),
    }
    assert set(recipes["again"].variants) == set(recipes["banner"].variants)


def test_a_recipe_says_which_placeholder_it_has_and_else_has_that_of_what_it_extends(tmp_path: Path) -> None:
    file = """
[avatar]
placeholder = "blurhash"
small = {box = 64}
[icon]
extends = "avatar"
[plain]
extends = "icon"
placeholder = "none"
[post.small]
box = 64
"""

    recipes = load_recipes(written(tmp_path, file))

    kinds = {name: recipe.placeholder for name, recipe in recipes.items()}
    expected = {"avatar": "blurhash", "icon": "blurhash", "plain": "none", "post": "thumbhash"}
    assert kinds == {"default": "thumbhash", **expected}
    assert [variant.name for variant in recipes["plain"].variants] == ["small"]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (
            "a.placeholder = 'lqip'\na.b.box = 1",
            "a.placeholder is one of thumbhash, blurhash, none, not 'lqip'",
        ),
        (
            "a.placeholder = false\na.b.box = 1",
            "a.placeholder is one of thumbhash, blurhash, none, not false",
        ),
        (
            "a.placeholder = 'none'",
            'a recipe has 1 to 16 tables [a.VARIANT], or extends = "default" for its variants',
        ),
        (
            "default.placeholder = 'blurhash'",
            'a recipe has 1 to 16 tables [default.VARIANT], or extends = "default" for its variants',
        ),
        (
            "a.plaeholder = 'none'\na.b.box = 1",
            "a.plaeholder: a variant is a table [a.plaeholder], or false: it is not made; "
            "a recipe has extends and placeholder besides",
        ),
    ],
)
def test_what_is_no_placeholder_is_reported(tmp_path: Path, text: str, mistake: str) -> None:
    assert mistakes_of(tmp_path, text) == [mistake]


def test_a_webp_may_say_what_subsampling_it_has_anyway(tmp_path: Path) -> None:
    recipes = load_recipes(
        written(tmp_path, '[avatar.small]\nbox = 9\nformat = "webp"\nsubsampling = "4:2:0"\n')
    )

    assert recipes["avatar"].variants == (Variant("small", 9, format="webp"),)


def test_a_variant_that_is_false_is_not_made_and_those_that_extend_it_may_make_it_again(
    tmp_path: Path,
) -> None:
    recipes = load_recipes(
        written(
            tmp_path,
            '[default]\nextends = "default"\nmedium = false\n[a]\nextends = "default"\n'
            '[b]\nextends = "a"\nmedium = {box = 700}\n',
        )
    )

    names = {name: [variant.name for variant in recipe.variants] for name, recipe in recipes.items()}
    assert names == {
        "default": ["thumb", "large"],
        "a": ["thumb", "large"],
        "b": ["thumb", "large", "medium"],
    }
    assert [sorted(recipes[name].without) for name in ("default", "a", "b")] == [["medium"], ["medium"], []]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('[a]\nextends = "default"\nthumb = false\nmedium = false\nlarge = false\n', "a makes no variant"),
        ("[a]\nthumb = false\n", "a makes no variant"),
        ("[a]\nb = true\n", "or false: it is not made"),
        ("[a]\nb = {box = 1}\nC = false\n", "not 'C'"),
    ],
)
def test_what_cannot_be_left_out_is_reported(tmp_path: Path, text: str, mistake: str) -> None:
    [found] = mistakes_of(tmp_path, text)

    assert mistake in found


def test_a_variant_may_be_called_placeholder(tmp_path: Path) -> None:
    recipes = load_recipes(written(tmp_path, "[avatar.placeholder]\nbox = 10\n"))

    assert recipes["avatar"].variants == (Variant("placeholder", 10),)


def test_a_variant_may_be_called_extends(tmp_path: Path) -> None:
    recipes = load_recipes(written(tmp_path, "[avatar.extends]\nbox = 10\n"))

    assert recipes["avatar"].variants == (Variant("extends", 10),)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ('[a]\nextends = "none"\n', ["a extends 'none', and there is no such recipe"]),
        ('[a]\nextends = "a"\nb = {box = 1}\n', ["a extends itself"]),
        (
            '[a]\nextends = "b"\n[b]\nextends = "a"\n',
            ["a extends itself: a -> b -> a"],
        ),
        (
            "".join(f'[{one}]\nextends = "{base}"\n' for one, base in ("ab", "bc", "cb", "da")),
            ["b extends itself: b -> c -> b"],
        ),
        ("[a]\nextends = 3\n", ["a.extends is the name of a recipe, not 3"]),
        ("[a]\nextends = ''\nb = {box = 1}\n", ["a extends '', and there is no such recipe"]),
        (
            '[default]\nextends = "default"\n' + "".join(f"v{n} = {{box = 1}}\n" for n in range(14)),
            ["default has 17 variants; 16 are the most"],
        ),
    ],
)
def test_what_cannot_be_extended_is_reported(tmp_path: Path, text: str, mistakes: list[str]) -> None:
    assert mistakes_of(tmp_path, text) == mistakes


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("[default.xlarge]\nbox = 2560\n", ["thumb", "medium", "large"]),
        ("[default.medium]\nbox = 700\n", ["thumb", "large"]),
        ('[default]\nextends = "default"\nxlarge = {box = 2560}\n', []),
        ("[avatar.small]\nbox = 64\n", []),
    ],
)
def test_what_a_default_of_ones_own_makes_no_more_is_known(
    tmp_path: Path, text: str, dropped: list[str]
) -> None:
    assert dropped_from_default(load_recipes(written(tmp_path, text))) == dropped


def test_all_mistakes_are_reported_at_once_each_by_its_key(tmp_path: Path) -> None:
    file = """[avatar.small]
box = 0
fit = "stretch"

[banner.wide]
box = 100
colour = "red"
"""

    mistakes = mistakes_of(tmp_path, file)

    assert mistakes[0] == "avatar.small.box is at least 1, not 0"
    assert mistakes[1] == "avatar.small.fit is 'inside' or 'cover', not 'stretch'"
    assert mistakes[2].startswith("banner.wide.colour means nothing here")


def test_mistakes_of_every_kind_are_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = """[a.b]
box = 0
size = 3

[A.b]
box = 1
"""

    mistakes = mistakes_of(tmp_path, file)

    assert [mistake.split()[0] for mistake in mistakes] == ["a.b.box", "a.b.size", "A:"]


@pytest.mark.parametrize(
    ("text", "where", "word"),
    [
        ("[avatar.small]\nquality = 80\n", "avatar.small.box", "missing"),
        ("[avatar.Small]\nbox = 10\n", "avatar", "'Small'"),
        ("avatar = 3\n", "avatar", "stands in no table; a variant is [RECIPE.VARIANT]"),
        ("[avatar]\nsmall = 3\n", "avatar.small", "a variant is a table [avatar.small]"),
        ("[other.fine]\nbox = 1\n\n[empty]\n", "[empty.VARIANT]", "1 to 16"),
        ("[a.b]\nbox = 10\nbackground = 'white'\n", "a.b.background", "colour"),
        ("[a.b]\nbox = true\n", "a.b.box", "is a whole number, not true"),
        ("[a.b]\nbox = 10\nbox = 11\n", "line 3", "overwrite"),
        ('[x.y]\nbox = 1\n[a."b.c"]\nbox = 10\n', "a:", "'b.c'"),
        ("[x.y]\nbox = 1\n[ 'a' . b ]\n'box' = 0\n", "a.b.box", "at least 1, not 0"),
        ("[x]\ny = {box = 1}\nz = {box = 0}\n", "x.z.box", "at least 1, not 0"),
        ("[a.b]\nbox = 1\nformat = 'webp'\nprogressive = true\n", "a.b.progressive", "JPEG"),
        ("[a.b]\nbox = 1\nformat = 'webp'\nsubsampling = '4:4:4'\n", "a.b.subsampling", "always 4:2:0"),
        ("[a.b]\nbox = 1\nsubsampling = '4:2:2'\n", "a.b.subsampling", "'4:2:0' or '4:4:4'"),
        ("[a.b]\nbox = 1\nsubsampling = 444\n", "a.b.subsampling", "'4:2:0' or '4:4:4'"),
        ("[a.b]\nbox = 1\ncrop = 'attention'\n", "a.b.crop", 'fit = "cover"'),
        ("[a.b]\nbox = 1\nfit = 'inside'\ncrop = 'centre'\n", "a.b.crop", 'fit = "cover"'),
        (
            "[a.b]\nbox = 1\nfit = 'cover'\ncrop = 'center'\n",
            "a.b.crop",
            "'centre', 'attention' or 'entropy'",
        ),
        ("[a.b]\nbox = 1\nfit = 'fill'\ncrop = 'entropy'\n", "a.b.fit", "'inside' or 'cover'"),
        ("[a.b]\nbox = 1\nformat = 'avif'\neffort = 'small'\n", "a.b.effort", "only a JPEG"),
        ("[a.b]\nbox = 1\neffort = 'tiny'\n", "a.b.effort", "'fast' or 'small'"),
        ("[a.b]\nbox = 1\neffort = 2\n", "a.b.effort", "'fast' or 'small'"),
        ("[a.b]\nbox = 1\neffort = 'small'\nprogressive = false\n", "a.b:", '"small" is progressive'),
        (
            "[a]\neffort = 'small'\nb.box = 1\n",
            "a.effort:",
            "belongs in the table of each variant, such as [a.",
        ),
        ("[a.b]\nbox = 1\nquality = 101\n", "a.b.quality", "is at most 100, not 101"),
        ("[a.b]\nbox = 1\nprogressive = 1\n", "a.b.progressive", "is true or false, not 1"),
        ("[a.b]\nbox = 1\nbackground = 7\n", "a.b.background", "six hexadecimal digits, in quotes"),
        ("[a.b]\nquality = 80\n", "a.b.box", "is missing"),
        ("[a.b]\nbox = 1\ncolour = 3\n", "a.b.colour", "there are box, fit, quality, format"),
    ],
)
def test_a_mistake_names_the_key_and_the_reason(tmp_path: Path, text: str, where: str, word: str) -> None:
    [mistake] = mistakes_of(tmp_path, text)

    assert where in mistake
    assert word in mistake


def test_a_file_that_is_not_there_is_a_mistake_and_not_an_empty_book(tmp_path: Path) -> None:
    with pytest.raises(RecipeMistakes, match=r"^No such file or directory$"):
        load_recipes(tmp_path / "none.toml")


def test_a_recipe_has_no_more_variants_than_a_decoder_takes(tmp_path: Path) -> None:
    file = "".join(f"[many.v{number}]\nbox = 10\n" for number in range(17))

    assert "1 to 16" in mistakes_of(tmp_path, file)[0]
