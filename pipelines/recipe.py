"""Recipes as data: which variants are made, what they are called, and how large they come out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Literal
from uuid import UUID, uuid5

import orjson

from pipelines.scaling import scaled

Fit = Literal["inside", "cover"]
OutputFormat = Literal["jpeg", "webp", "avif"]

_ALWAYS_NAMED = {"box", "fit", "format", "quality"}


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

    @property
    def spec(self) -> dict[str, object]:
        """The fields that decide the bytes; of those that came later, only what is not the default."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name in _ALWAYS_NAMED
            if field.name != "name"
        }

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
    """A named set of variants."""

    name: str
    variants: Sequence[Variant]

    def fingerprint(self, variant: Variant) -> str:
        """16 hex digits that change with anything that changes the bytes of a variant of this recipe.

        Each variant is made from the next larger one, so all larger ones count; the first
        built-in sizes are the default.
        """
        spec = {"v": 1, **variant.spec}
        larger = _larger(variant, self.variants)
        if larger != _larger(variant, _FIRST_SIZES):
            spec["from"] = larger
        if len({other.background for other in self.variants}) > 1:
            spec["backgrounds"] = "several"  # transparency then lasts until the variant is encoded
        return sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]

    def uuid(self, variant: Variant, upload_id: UUID, content_sha256: str) -> UUID:
        """The variant's name for that upload and content: the same name, the same bytes."""
        return uuid5(upload_id, f"{content_sha256}/{variant.name}/{self.fingerprint(variant)}")


def _larger(variant: Variant, others: Sequence[Variant]) -> Sequence[tuple[str, int]]:
    """Fit and box of the others that can come out larger than `variant`, of any picture, before cropping."""
    return sorted(
        {
            (other.fit, other.box)
            for other in others
            if other.box > variant.box or (other.fit == "cover" and variant.fit == "inside")
        }
    )


# Larger ones of these are in no fingerprint, so they never change, also where the default gets another size.
_FIRST_SIZES = (Variant("thumb", 150), Variant("medium", 800), Variant("large", 1920))
DEFAULT = Recipe("default", _FIRST_SIZES)

Recipes = Mapping[str, Recipe]
BUILT_IN: Recipes = {DEFAULT.name: DEFAULT}


def dropped_from_default(recipes: Recipes) -> Sequence[str]:
    """The names of the built-in recipe's variants that `default` has not any more."""
    kept = {variant.name for variant in recipes[DEFAULT.name].variants}
    return [variant.name for variant in DEFAULT.variants if variant.name not in kept]
