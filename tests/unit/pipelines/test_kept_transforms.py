"""Colours of small pictures with a profile are those of libvips, by transforms that are made once."""

import os
from typing import Any

import pytest
import pyvips
from PIL import ImageCms

from pipelines.decoder import colour, kept_transforms
from pipelines.decoder.picture import ImageInMemory

P3 = bytes(pyvips.Image.profile_load("p3"))
PROFILES = {
    "Display P3": P3,
    "sRGB of lcms": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "a gamma of 1.8": P3.replace(P3[P3.index(b"para") :][:16], b"para\0\0\0\0\0\0\0\0\0\1\xcc\xcd"),
}


def picture(width: int = 60, height: int = 40, *, bands: int = 3, meaning: str = "srgb") -> ImageInMemory:
    return ImageInMemory(os.urandom(width * height * bands), width, height, bands, "uchar", meaning)


def converted(image: Any, profile: bytes = P3) -> Any:
    return kept_transforms.converted(image, profile)


@pytest.mark.parametrize("name", PROFILES)
def test_a_small_picture_has_the_colours_that_libvips_would_make(name: str) -> None:
    image = picture()
    expected = colour._transform(image, PROFILES[name])

    found = converted(image, PROFILES[name])

    assert found.write_to_memory() == expected.write_to_memory()
    assert (found.interpretation, found.bands) == (expected.interpretation, expected.bands) == ("srgb", 3)


def test_a_transform_is_made_once_for_each_profile() -> None:
    kept_transforms._transform.cache_clear()
    for _ in range(3):
        converted(picture())

    assert kept_transforms._transform.cache_info().misses == 1


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(picture(700, 600), id="large"),
        pytest.param(picture(bands=1, meaning="b-w"), id="grey"),
        pytest.param(picture(bands=4, meaning="cmyk"), id="inks"),
        pytest.param(picture().cast("ushort").copy(interpretation="rgb16"), id="16 bits"),
    ],
)
def test_other_pictures_are_left_to_libvips(image: Any) -> None:
    assert converted(image) is None


@pytest.mark.parametrize("profile", [b"", b"no profile", P3[:-40], P3[:200] + bytes(200), bytes(100_000)])
def test_a_profile_that_is_broken_or_long_is_left_to_libvips(profile: bytes) -> None:
    assert converted(picture(), profile) is None
