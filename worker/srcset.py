"""`srcset`: the variants of an upload as an `<img>` takes them, each width once, and the links in it."""

from collections import Counter
from collections.abc import Callable, Sequence

from storage.catalog.records import Original, StoredVariant

Link = Callable[[str], str]
"""Where whoever is told finds what lies under a key."""

_FORMATS = ("jpg", "webp", "avif")
"""The endings of keys, those first that more browsers show."""


def lasting_link(url: str, files: str) -> Link:
    """The links of messages: for ever under the public `url`, else keys, for a signed link would expire."""
    return (lambda key: f"{url}/files/{key}") if url and files == "public" else str


def srcset(variants: Sequence[StoredVariant], original: Original | None, link: Link) -> str:
    """What the attribute is to be, with a `link` to each key; empty where there is no variant.

    A browser chooses by width alone. So all are of the same proportions, the original's, or where no variant
    has these, the largest's; and of one format, the one that has the most widths, of as many the one that
    more browsers show. Of several that are equally wide the smallest in bytes is taken.
    """
    widths: dict[int, StoredVariant] = {}
    for one in sorted(
        _of_one_format(_of_one_shape(variants, original)), key=lambda one: (one.bytes, one.key)
    ):
        widths.setdefault(one.width, one)
    return ", ".join(f"{link(one.key)} {width}w" for width, one in sorted(widths.items()))


def _of_one_shape(variants: Sequence[StoredVariant], original: Original | None) -> Sequence[StoredVariant]:
    if original is not None:
        like_original = [one for one in variants if _are_alike(one, original)]
        if like_original:
            return like_original
    largest = max(variants, key=lambda one: one.width * one.height, default=None)
    return [one for one in variants if largest is not None and _are_alike(one, largest)]


def _are_alike(one: StoredVariant, whole: Original | StoredVariant) -> bool:
    """Whether some scale brings the sides of the whole to those of the other, rounded, 1 px at least."""
    most = min((one.width + 0.5) / whole.width, (one.height + 0.5) / whole.height)
    return _least(one.width, whole.width) <= most and _least(one.height, whole.height) <= most


def _least(side: int, of: int) -> float:
    return (side - 0.5) / of if side > 1 else 0.0


def _of_one_format(variants: Sequence[StoredVariant]) -> Sequence[StoredVariant]:
    widths = {(_ending(one), one.width) for one in variants}
    counts = Counter([ending for ending, _ in widths])
    if len(counts) <= 1:
        return variants
    best = max(_FORMATS, key=lambda ending: counts[ending])
    return [one for one in variants if _ending(one) == best]


def _ending(variant: StoredVariant) -> str:
    return variant.key.rpartition(".")[2]
