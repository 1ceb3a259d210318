"""Placeholders: what a page shows while a picture loads, in a few bytes that come with its upload."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pipelines.placeholders import blurhash, thumbhash
from pipelines.placeholders.png import data_url

Kind = Literal["thumbhash", "blurhash", "none"]
"""What a recipe asks for."""

_KEPT = 1024  # pictures of placeholders: a page of uploads shows some forty


@dataclass(frozen=True)
class Placeholder:
    """A picture's placeholder, of one kind at most."""

    thumbhash: bytes | None = None
    blurhash: str | None = None

    @property
    def kind(self) -> Kind:
        """Which of the two it is."""
        return "thumbhash" if self.thumbhash else "blurhash" if self.blurhash else "none"


NO_PLACEHOLDER = Placeholder()


def parse(kind: Kind, text: str | None) -> Placeholder:
    """The placeholder that such a text is, a ThumbHash in base64. Raises: ValueError where it is none."""
    match kind:
        case "none" if text is None:
            return NO_PLACEHOLDER
        case "thumbhash" if text is not None:
            return Placeholder(thumbhash=thumbhash.parse(text))
        case "blurhash" if text is not None and blurhash.is_whole(text):
            return Placeholder(blurhash=text)
    raise ValueError(f"no placeholder of the kind {kind}")


@lru_cache(_KEPT)
def picture_of(placeholder: Placeholder) -> str | None:
    """A tiny PNG of the placeholder as a `data:` URL, to be shown enlarged; None where there is none.

    It takes a fraction of a millisecond, of whatever picture.
    """
    if placeholder.thumbhash is not None and thumbhash.is_whole(placeholder.thumbhash):
        return data_url(thumbhash.pixels(placeholder.thumbhash))
    if placeholder.blurhash is not None and blurhash.is_whole(placeholder.blurhash):
        return data_url(blurhash.pixels(placeholder.blurhash))
    return None
