"""Variants made one from the other are as good as each made from the whole picture."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageDraw, ImageOps

from tests.support.decoder_child import BOXES, DecoderProcess, spec
from tests.support.likeness import ssim, ssim_of_colours
from tests.support.picture_folders import corpus_folder

ALIKE = 0.98
AS_GOOD = 0.008  # what another encoder, and another table, of the same quality may differ
_REPOSITORY = Path(__file__).parents[3]
_CORPUS = corpus_folder()
BUNDLED = sorted((_REPOSITORY / "scripts" / "pictures").glob("*.jpg"))
PHOTOS = sorted((_CORPUS / "photos").glob("*.jpg")) if _CORPUS is not None else []


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess(names=["jpeg"]) as running:
        yield running


@pytest.mark.parametrize("photo", BUNDLED, ids=lambda path: path.stem)
@pytest.mark.rotating(2)
def test_a_bundled_photos_variants_look_like_a_lanczos_reduction_of_the_original(
    photo: Path, child: DecoderProcess
) -> None:
    check(photo, child)


@pytest.mark.skipif(not PHOTOS, reason="no corpus of photos: name its folder in MEDIA_TEST_CORPUS")
@pytest.mark.parametrize(
    "photo",
    [pytest.param(path, marks=() if n % 6 == 1 else pytest.mark.campaign) for n, path in enumerate(PHOTOS)],
    ids=lambda path: path.stem,
)
def test_a_camera_photos_variants_look_like_a_lanczos_reduction_of_the_original(
    photo: Path, child: DecoderProcess
) -> None:
    check(photo, child)


def check(photo: Path, child: DecoderProcess) -> None:
    """Scaling loses nothing to see, and what is served is as near as Pillow's best of the same quality."""
    scaled = render(child, photo, quality=100)
    served = render(child, photo, quality=80)

    for box, best, usual in zip(BOXES, scaled, served, strict=True):
        reference = reduced(photo, best.size)
        assert max(best.size) <= box
        assert ssim(reference, best) >= ALIKE
        # Its table has less of brightness and more of colour than the one that Pillow takes.
        libjpegs = ssim_of_colours(reference, encoded(reference))
        assert ssim_of_colours(reference, usual) >= libjpegs - AS_GOOD


def render(child: DecoderProcess, photo: Path, quality: int) -> Sequence[Image.Image]:
    outcome = child.run(photo, [spec(box, quality=quality) for box in BOXES])
    return [Image.open(io.BytesIO(variant)) for variant in outcome.variants]


def reduced(photo: Path, size: tuple[int, int]) -> Image.Image:
    with Image.open(photo) as original:
        upright = ImageOps.exif_transpose(original).convert("RGB")
        if profile := original.info.get("icc_profile"):
            upright = in_srgb(upright, profile)
    return upright.resize(size, Image.Resampling.LANCZOS)


def in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    said, usual = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(picture, said, usual, relative, "RGB")
    assert converted is not None
    return converted


def encoded(picture: Image.Image) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80, subsampling=2)
    return Image.open(content)


def test_a_picture_is_entirely_like_itself() -> None:
    picture = Image.effect_noise((64, 48), 60)

    assert ssim(picture, picture) == pytest.approx(1)


def test_two_plain_greys_are_as_alike_as_the_formula_says() -> None:
    light, dark = Image.new("L", (32, 32), 200), Image.new("L", (32, 32), 100)

    assert ssim(light, dark) == pytest.approx((2 * 200 * 100 + 6.5025) / (200**2 + 100**2 + 6.5025))


def test_a_picture_and_its_negative_are_opposites() -> None:
    board = Image.new("L", (16, 16), 0)
    ImageDraw.Draw(board).rectangle((4, 4, 11, 11), fill=255)

    assert ssim(board, ImageOps.invert(board)) < -0.5


def test_blur_is_found() -> None:
    picture = reduced(BUNDLED[0], (400, 300))
    small = picture.resize((200, 150)).resize((400, 300))

    assert ssim(picture, small) < 0.95
