"""Missing placeholders: which uploads lack the one that their recipe asks for, or have one too many."""

from dataclasses import replace
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


def has_unwanted_placeholder(original: Original, recipe: Recipe) -> bool:
    """Whether there is one although the recipe asks for none."""
    return without_unwanted_placeholder(original, recipe) != original


def without_unwanted_placeholder(original: Original, recipe: Recipe) -> Original:
    """What was read of an original, without the placeholder that its recipe does not ask for any more."""
    return replace(original, thumbhash=None, blurhash=None) if recipe.placeholder == "none" else original


@cache
def attempt_at(kind: Kind) -> str:
    """What an original keeps of a failed attempt at a placeholder of that kind: by which versions it was."""
    versions = f"{version('media-worker')}, {decoder_version()}"
    return f"{kind} {sha256(versions.encode()).hexdigest()[:16]}"
