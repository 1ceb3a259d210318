"""Pictures to upload: small ones that all differ, larger ones that take a while."""

import io
import random
from functools import lru_cache

from PIL import Image


def small(number: int = 0) -> bytes:
    """A JPEG of 60 x 40 px, another one for each number."""
    colour = (number % 251, number // 251 % 251, 99)
    return _jpeg(Image.new("RGB", (60, 40), colour))


@lru_cache
def medium(number: int = 0) -> bytes:
    """A JPEG of 1200 x 900 px with something in it."""
    return _scene(number, (1200, 900))


@lru_cache
def large(number: int = 0) -> bytes:
    """A JPEG of 4000 x 3000 px, which takes some 100 ms."""
    return _scene(number, (4000, 3000))


@lru_cache
def wide() -> bytes:
    """A JPEG of 2600 x 400 px with detail, larger than every built-in size and quick."""
    return _jpeg(Image.effect_noise((260, 40), 200).resize((2600, 400)).convert("RGB"))


def _scene(number: int, size: tuple[int, int]) -> bytes:
    noise = random.Random(number).randbytes(40 * 30 * 3)
    return _jpeg(Image.frombytes("RGB", (40, 30), noise).resize(size, Image.Resampling.BICUBIC))


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=85)
    return content.getvalue()
