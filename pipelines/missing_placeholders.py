"""Missing placeholders: which uploads lack the one that their recipe asks for, and which are to get it."""

from functools import cache
from hashlib import sha256
from importlib.metadata import version

from pipelines.placeholders import Kind, Placeholder
from pipelines.recipe import Recipe
from pipelines.sandbox import decoder_version
from storage.catalog.records import Original


def lacks_placeholder(original: Original, recipe: Recipe) -> bool:
    """Whether the recipe asks for a placeholder of another kind than there is of the original."""
    return recipe.placeholder not in ("none", Placeholder(original.thumbhash, original.blurhash).kind)


def awaits_placeholder(original: Original, recipe: Recipe) -> bool:
    """Whether it lacks one, and this version has not tried in vain to make one of that kind."""
    tried = original.placeholder_tried == attempt_at(recipe.placeholder)
    return lacks_placeholder(original, recipe) and not tried


@cache
def attempt_at(kind: Kind) -> str:
    """What an original keeps of a failed attempt at a placeholder of that kind: by which versions it was."""
    versions = f"{version('media-worker')}, {decoder_version()}"
    return f"{kind} {sha256(versions.encode()).hexdigest()[:16]}"
