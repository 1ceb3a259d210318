"""An image in memory is to libvips, and to all that ask it, like any other image."""

import gc

import pytest

from pipelines.decoder.picture import ImageInMemory, samples

_FORM = ("width", "height", "bands", "format", "interpretation")


def _pixels(count: int) -> bytes:
    return bytes(number % 251 for number in range(count))


class TestImageInMemory:
    @pytest.mark.parametrize(
        ("bands", "meaning"), [(1, "b-w"), (2, "b-w"), (3, "srgb"), (4, "srgb"), (4, "cmyk")]
    )
    def test_it_says_of_itself_what_libvips_says_of_it(self, bands: int, meaning: str) -> None:
        image = ImageInMemory(_pixels(70 * 40 * bands), 70, 40, bands, "uchar", meaning)

        assert [getattr(image, name) for name in _FORM] == [image.get(name) for name in _FORM]

    def test_its_samples_are_the_pixels_that_libvips_has_of_it(self) -> None:
        image = ImageInMemory(_pixels(70 * 40 * 3), 70, 40, 3, "uchar", "srgb")

        assert samples(image) == samples(image.copy()) == image.write_to_memory()

    def test_what_is_made_of_it_has_its_pixels_after_it_is_gone(self) -> None:
        flipped = ImageInMemory(_pixels(70 * 40 * 3), 70, 40, 3, "uchar", "srgb").flipver()
        gc.collect()

        assert flipped.flipver().write_to_memory() == _pixels(70 * 40 * 3)
        assert type(flipped) is not ImageInMemory

    def test_libvips_lets_go_of_it_when_python_does(self) -> None:
        held = bytearray(_pixels(70 * 40 * 3))
        image = ImageInMemory(memoryview(held), 70, 40, 3, "uchar", "srgb")
        with pytest.raises(BufferError):
            held.clear()

        del image

        held.clear()
