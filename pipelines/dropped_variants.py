"""Which variants live uploads have that their recipe makes no more: it was changed, or has left the file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipelines.recipe import Recipes
from storage.catalog.variant_names import VariantNames


@dataclass(frozen=True)
class DroppedVariant:
    """A variant that so many live uploads have, or at least so many, and their recipe makes no more.

    `recipe` may be one that is gone. It is None where no recipe makes the variant, and none of the uploads
    that were looked at has it.
    """

    recipe: str | None
    variant: str
    uploads: int
    is_all: bool


async def find_dropped(recipes: Recipes, catalog: VariantNames) -> Sequence[DroppedVariant]:
    """What uploads have that none of `recipes` makes, or not theirs, by the recipes' and variants' names.

    The catalog is asked for its totals, for the recipes that uploads name, and for some uploads of each that
    makes not all there is.

    Raises: CatalogUnavailable.
    """
    counts = await catalog.counts()
    made = {name: {variant.name for variant in recipe.variants} for name, recipe in recipes.items()}
    gone = await catalog.recipes(without=made)
    found: dict[str, dict[str, int]] = {}
    for recipe, names in {**made, **{name: set[str]() for name in gone}}.items():
        if candidates := counts.keys() - names:
            for variant, uploads in (await catalog.sampled(recipe, candidates)).items():
                found.setdefault(variant, {})[recipe] = uploads
    unseen = counts.keys() - found.keys() - {name for names in made.values() for name in names}
    return [
        *(
            DroppedVariant(recipe, variant, *_amount(variant, uploads, counts, found, made))
            for variant, among in sorted(found.items())
            for recipe, uploads in sorted(among.items())
        ),
        *(DroppedVariant(None, variant, counts[variant], is_all=True) for variant in sorted(unseen)),
    ]


def _amount(
    variant: str,
    sampled: int,
    counts: Mapping[str, int],
    found: Mapping[str, Mapping[str, int]],
    made: Mapping[str, Collection[str]],
) -> tuple[int, bool]:
    """How many uploads have it, and whether those are all: of a name that is no other recipe's."""
    is_one_recipes = len(found[variant]) == 1 and not any(variant in names for names in made.values())
    return (counts[variant], True) if is_one_recipes else (sampled, False)
