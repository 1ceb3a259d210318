"""Recipes as data: which variants are made, what they are called, and how large they come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from typing import Literal
from uuid import UUID, uuid5

import orjson

from pipelines.placeholders import Kind
from pipelines.scaling import scaled

Fit = Literal["inside", "cover"]
OutputFormat = Literal["jpeg", "webp", "avif"]
Subsampling = Literal["4:2:0", "4:4:4"]
Crop = Literal["centre", "attention", "entropy"]
Effort = Literal["fast", "small"]

_ALWAYS_NAMED = {"box", "fit", "format", "quality"}
# Raised where the same fields make other bytes. 2: with tables of mozjpeg instead of the standard's.
_VERSIONS: Mapping[OutputFormat, int] = {"jpeg": 2, "webp": 1, "avif": 1}


@dataclass(frozen=True)
class Variant:
    """One picture to make: fit `inside` a square box (in px, never enlarged) or made to `cover` it.

    A default never changes, because a field at its default is not in the fingerprint.
    """

    name: str
    box: int
    fit: Fit = "inside"
    format: OutputFormat = "jpeg"
    quality: int = 80
    background: tuple[int, int, int] = (255, 255, 255)
    progressive: bool = False
    subsampling: Subsampling = "4:2:0"
    crop: Crop = "centre"
    effort: Effort = "fast"

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with every field but the name.

        What other variants stand beside it is not in them: adding a size renames nothing.
        """
        spec: dict[str, object] = {"v": _VERSIONS[self.format]}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _ALWAYS_NAMED or (field.name != "name" and value != field.default):
                spec[field.name] = value
        return sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def uuid(self, upload_id: UUID, content_sha256: str) -> UUID:
        """This variant's name for that upload and content: the same fields and bytes have the same name."""
        return uuid5(upload_id, f"{content_sha256}/{self.name}/{self.fingerprint}")

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """The size in px that an upright original of `width` x `height` px gets."""
        if self.fit == "cover":
            return min(width, self.box), min(height, self.box)
        side = max(width, height)
        if side <= self.box:
            return width, height
        return scaled(width, side, self.box), scaled(height, side, self.box)


@dataclass(frozen=True)
class Recipe:
    """A named set of variants, and the kind of placeholder that goes with them."""

    name: str
    variants: Sequence[Variant]
    placeholder: Kind = "thumbhash"
    without: frozenset[str] = frozenset()
    """The names of variants that it leaves out on purpose."""


DEFAULT = Recipe("default", (Variant("thumb", 150), Variant("medium", 800), Variant("large", 1920)))

Recipes = Mapping[str, Recipe]
BUILT_IN: Recipes = {DEFAULT.name: DEFAULT}


def digest_of(recipes: Recipes) -> str:
    """16 hex digits that change with whatever a recipe makes, or with its name; not with any order."""
    made = {
        recipe.name: [recipe.placeholder, *sorted([one.name, one.fingerprint] for one in recipe.variants)]
        for recipe in recipes.values()
    }
    return sha256(orjson.dumps(made, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def dropped_from_default(recipes: Recipes) -> Sequence[str]:
    """The names of the built-in recipe's variants that `default` has not any more, and not on purpose."""
    own = recipes[DEFAULT.name]
    kept = {variant.name for variant in own.variants} | own.without
    return [variant.name for variant in DEFAULT.variants if variant.name not in kept]
