"""Recipes from a TOML file: a table a variant, `[recipe.variant]`, its mistakes reported by their key.

`extends` in a recipe's own table names another one, whose variants and placeholder it has too;
`placeholder` says which kind it has itself, and `VARIANT = false` that it makes no such variant on purpose.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pipelines.placeholders import Kind
from pipelines.recipe import (
    BUILT_IN,
    DEFAULT,
    Crop,
    Effort,
    Fit,
    OutputFormat,
    Recipe,
    Recipes,
    Subsampling,
    Variant,
)

MOST_VARIANTS = 16  # of one recipe: a decoder lists all of them in one answer
LARGEST_BOX = 16_384  # px

_EXTENDS, _PLACEHOLDER = "extends", "placeholder"
_KINDS: tuple[str, ...] = get_args(Kind)
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
_NAME: TypeAdapter[str] = TypeAdapter(_Name)


class RecipeMistakes(Exception):
    """The file does not describe recipes; the message has a line for each mistake."""


_WORDS = {
    "missing": "{where} is missing",
    "extra_forbidden": "{where} means nothing here; there are {keys}",
    "model_type": "{where}: a variant is a table [{where}], or false: it is not made; a recipe has "
    "extends and placeholder besides",
    "string_pattern_mismatch": "{where}: a colour is # and six hexadecimal digits",
    "string_type": "{where}: a colour is # and six hexadecimal digits, in quotes",
    "literal_error": "{where} is {expected}, not {value}",
    "bool_type": "{where} is true or false, not {value}",
    "int_type": "{where} is a whole number, not {value}",
    "greater_than_equal": "{where} is at least {ge}, not {value}",
    "less_than_equal": "{where} is at most {le}, not {value}",
}
_OF_A_VARIANT = "{where}: {key} belongs in the table of each variant, such as [{recipe}.VARIANT]"


class _VariantTable(BaseModel):
    """A variant's table in a file of recipes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    box: Annotated[int, Field(ge=1, le=LARGEST_BOX)]
    fit: Fit = "inside"
    quality: Annotated[int, Field(ge=1, le=100)] = 80
    format: OutputFormat = "jpeg"
    background: Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")] = "#ffffff"
    progressive: bool = False
    subsampling: Subsampling = "4:2:0"
    crop: Crop = "centre"
    effort: Effort = "fast"

    @field_validator("progressive")
    @classmethod
    def _is_for_jpeg(cls, progressive: bool, info: ValidationInfo) -> bool:
        if progressive and info.data.get("format", "jpeg") != "jpeg":
            raise PydanticCustomError("progressive", "only a JPEG can be progressive")
        return progressive

    @field_validator("subsampling")
    @classmethod
    def _is_not_for_webp(cls, subsampling: Subsampling, info: ValidationInfo) -> Subsampling:
        if subsampling != "4:2:0" and info.data.get("format") == "webp":
            raise PydanticCustomError(
                "subsampling", "a WebP is always 4:2:0; only JPEG and AVIF can be 4:4:4"
            )
        return subsampling

    @field_validator("crop")
    @classmethod
    def _is_for_cover(cls, crop: Crop, info: ValidationInfo) -> Crop:
        if info.data.get("fit") == "inside":
            raise PydanticCustomError("crop", 'only what has fit = "cover" is cropped')
        return crop

    @field_validator("effort")
    @classmethod
    def _makes_small_jpegs(cls, effort: Effort, info: ValidationInfo) -> Effort:
        if effort != "fast" and info.data.get("format", "jpeg") != "jpeg":
            raise PydanticCustomError("effort", "only a JPEG is made smaller by more effort")
        return effort

    @model_validator(mode="after")
    def _is_progressive_with_effort(self) -> Self:
        if self.effort == "small" and not self.progressive and "progressive" in self.model_fields_set:
            raise PydanticCustomError("effort", 'what has effort = "small" is progressive')
        return self

    def variant(self, name: str) -> Variant:
        red, green, blue = bytes.fromhex(self.background[1:])
        others = self.model_dump(exclude={"background"})
        return Variant(name=name, background=(red, green, blue), **others)


def load_recipes(path: Path) -> Recipes:
    """The recipes of the file at `path`, beside the built-in one unless it has a `default` of its own.

    Raises: RecipeMistakes, with all mistakes.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RecipeMistakes(error.strerror) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeMistakes(str(error)) from error
    mistakes: list[str] = []
    bases = {name: _base(name, table, mistakes) for name, table in tables.items()}
    kinds = {name: _kind(name, table, mistakes) for name, table in tables.items()}
    own = {name: _recipe(name, table, mistakes) for name, table in tables.items()}
    recipes = {name: _extended(recipe, own, bases, kinds, mistakes) for name, recipe in own.items()}
    if mistakes:
        raise RecipeMistakes("\n".join(mistakes))
    return {**BUILT_IN, **recipes}


def _said(table: object, key: str) -> object:
    """What a recipe's own table says under a key; a table of that name is a variant like any other."""
    value = table.get(key) if isinstance(table, dict) else None
    return None if isinstance(value, dict) else value


def _base(name: str, table: object, mistakes: list[str]) -> str | None:
    """The recipe that a table names as the one which it extends."""
    said = _said(table, _EXTENDS)
    if said is None or isinstance(said, str):
        return said
    mistakes.append(f"{name}.{_EXTENDS} is the name of a recipe, not {_shown(said)}")
    return None


def _kind(name: str, table: object, mistakes: list[str]) -> Kind | None:
    """The kind of placeholder that a table names."""
    said = _said(table, _PLACEHOLDER)
    if said is not None and said not in _KINDS:
        mistakes.append(f"{name}.{_PLACEHOLDER} is one of {', '.join(_KINDS)}, not {_shown(said)}")
    return next((kind for kind in get_args(Kind) if kind == said), None)


def _shown(value: object) -> str:
    """A value as its file has it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _extended(
    recipe: Recipe,
    own: Recipes,
    bases: Mapping[str, str | None],
    kinds: Mapping[str, Kind | None],
    mistakes: list[str],
) -> Recipe:
    """`recipe` with what it extends: its variants, unless it names them itself, and its placeholder."""
    try:
        line_of_descent = [*_bases_of(recipe.name, own, bases)]
    except LookupError as error:
        line_of_descent = []
        if error.args[0] not in mistakes:  # of a circle each recipe in it says the same
            mistakes.append(error.args[0])
    variants: dict[str, Variant] = {}
    without: frozenset[str] = frozenset()
    for one in (*reversed(line_of_descent), recipe):
        variants = {name: variant for name, variant in variants.items() if name not in one.without}
        variants |= {variant.name: variant for variant in one.variants}
        without = (without | one.without) - variants.keys()
    if line_of_descent and not variants:
        mistakes.append(f"{recipe.name} makes no variant")
    if line_of_descent and len(variants) > MOST_VARIANTS:
        mistakes.append(f"{recipe.name} has {len(variants)} variants; {MOST_VARIANTS} are the most")
    named = (kind for one in (recipe, *line_of_descent) if (kind := kinds.get(one.name)))
    return Recipe(recipe.name, tuple(variants.values()), next(named, recipe.placeholder), without)


def _bases_of(name: str, own: Recipes, bases: Mapping[str, str | None]) -> Iterator[Recipe]:
    """The recipe that `name` extends, the one which that extends, and so on.

    Raises: LookupError where that leads nowhere.
    """
    path = [name]
    while (base := bases.get(name)) is not None:
        if base == name and base in BUILT_IN:
            yield BUILT_IN[base]
            return
        if base in path:
            raise LookupError(_circle(path[path.index(base) :], own))
        if base not in own and base not in BUILT_IN:
            raise LookupError(f"{name} extends {base!r}, and there is no such recipe")
        yield own.get(base) or BUILT_IN[base]
        path.append(base)
        name = base


def _circle(names: Sequence[str], own: Recipes) -> str:
    """What is wrong with recipes that extend one another, beginning with the first of the file."""
    first = min(range(len(names)), key=lambda at: [*own].index(names[at]))
    path = [*names[first:], *names[:first], names[first]]
    return f"{path[0]} extends itself" + (f": {' -> '.join(path)}" if len(names) > 1 else "")


def _recipe(name: str, table: object, mistakes: list[str]) -> Recipe:
    extends = _said(table, _EXTENDS) is not None
    if isinstance(table, dict):
        keys = [key for key in (_EXTENDS, _PLACEHOLDER) if _said(table, key) is not None]
        table = {variant: entry for variant, entry in table.items() if variant not in keys}
    for part in (name, *(table if isinstance(table, dict) else ())):
        try:
            _NAME.validate_python(part)
        except ValidationError:
            mistakes.append(f"{name}: a name is 1 to 32 of a-z, 0-9, _ and -, not {part!r}")
    if not isinstance(table, dict):
        mistakes.append(f"{name} stands in no table; a variant is [RECIPE.VARIANT]")
        return Recipe(name, ())
    without = frozenset(variant for variant, entry in table.items() if entry is False)
    table = {variant: entry for variant, entry in table.items() if variant not in without}
    if without and not (table or extends):
        mistakes.append(f"{name} makes no variant")
        return Recipe(name, ())
    if not (table or extends) or len(table) > MOST_VARIANTS:
        others = "" if table else f', or {_EXTENDS} = "{DEFAULT.name}" for its variants'
        mistakes.append(f"a recipe has 1 to {MOST_VARIANTS} tables [{name}.VARIANT]{others}")
        return Recipe(name, ())
    made = [_variant(name, variant, entry, mistakes) for variant, entry in table.items()]
    return Recipe(name, tuple(variant for variant in made if variant is not None), without=without)


def _variant(recipe: str, name: str, entry: object, mistakes: list[str]) -> Variant | None:
    try:
        return _VariantTable.model_validate(entry).variant(name)
    except ValidationError as error:
        for mistake in error.errors(include_url=False):
            where = [recipe, name, *(str(part) for part in mistake["loc"][:1])]
            words = _WORDS.get(mistake["type"], "{where}: {said}")
            if mistake["type"] == "model_type" and name in _VariantTable.model_fields:
                words = _OF_A_VARIANT
            values = {
                "where": ".".join(where),
                "recipe": recipe,
                "key": name,
                "keys": ", ".join(_VariantTable.model_fields),
                "said": mistake["msg"],
                "value": _shown(mistake["input"]),
            }
            mistakes.append(words.format(**values | mistake.get("ctx", {})))
    return None
