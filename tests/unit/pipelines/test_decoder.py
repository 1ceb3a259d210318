"""The decoder's child: one picture after another, from a descriptor to a file of variants."""

import hashlib
import io
import os
import time
from collections.abc import Iterator

import pytest
from PIL import Image, JpegImagePlugin

from tests.support.decoder_child import DecoderProcess, spec

RED = (200, 30, 30)


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess(names=["jpeg", "png", "webp", "gif"]) as running:
        yield running


def jpeg(size: tuple[int, int] = (1000, 401), **options: object) -> bytes:
    return saved(Image.new("RGB", size, RED), "JPEG", **options)


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_a_picture_becomes_all_its_variants_from_one_read(child: DecoderProcess) -> None:
    outcome = child.run(jpeg())

    assert outcome.status == "done"
    assert [opened(data).size for data in outcome.variants] == [(150, 60), (800, 321), (1000, 401)]
    for answer, data in zip(outcome.answer["variants"], outcome.variants, strict=True):
        assert (answer["width"], answer["height"], answer["bytes"]) == (*opened(data).size, len(data))


def test_the_answer_says_what_was_found_and_how_long_it_took(child: DecoderProcess) -> None:
    source = jpeg()

    outcome = child.run(source)

    assert outcome.probe is not None
    assert outcome.probe["sha256"] == hashlib.sha256(source).hexdigest()
    assert [outcome.probe[name] for name in ("format", "width", "height")] == ["jpeg", 1000, 401]
    assert set(outcome.answer["ms"]) == {"read", "hash", "probe", "decode", "resize", "encode"}


def test_before_it_decodes_it_says_what_it_will_take_and_waits_for_consent(child: DecoderProcess) -> None:
    outcome = child.run(jpeg(), proceed=False)

    assert outcome.probe is not None
    assert outcome.probe["estimate"] > 10 * 1024 * 1024
    assert outcome.variants == []
    assert child.run(jpeg()).status == "done"


def test_known_content_is_not_even_looked_at(child: DecoderProcess) -> None:
    source = jpeg()

    outcome = child.run(source, known=hashlib.sha256(source).hexdigest())

    assert outcome.status == "unchanged"


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_that_changed_while_it_was_read_is_recognised(child: DecoderProcess, difference: int) -> None:
    source = jpeg()

    assert child.run(source, size=len(source) + difference).status == "changed"


def test_the_output_holds_the_variants_and_nothing_of_what_it_held_before(child: DecoderProcess) -> None:
    os.pwrite(child.output, b"x" * 1_000_000, 0)

    made = child.run(jpeg(), [spec(150), spec(100)]).answer["variants"]

    assert os.fstat(child.output).st_size == sum(variant["bytes"] for variant in made) < 1_000_000
    assert sorted(variant["start"] for variant in made) == [0, made[0]["bytes"]]


def test_variants_that_are_the_same_are_encoded_once(child: DecoderProcess) -> None:
    first, second = child.run(jpeg(), [spec(150), spec(150, name="again")]).answer["variants"]

    assert (first["start"], first["bytes"]) == (second["start"], second["bytes"])


def test_a_variant_is_a_baseline_jpeg_with_subsampled_colour_and_no_metadata(child: DecoderProcess) -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 0.0, 0.0)}
    source = jpeg(exif=exif, comment=b"hello", xmp=b"<x:xmpmeta/>", icc_profile=b"junk")

    variant = opened(child.run(source).variants[1])

    assert set(variant.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}
    assert JpegImagePlugin.get_sampling(variant) == 2
    assert b"hello" not in variant.tobytes()


def test_a_recipe_decides_format_quality_fit_background_and_progression(child: DecoderProcess) -> None:
    source = saved(Image.new("RGBA", (900, 600), (0, 0, 0, 0)), "PNG")
    specs = [
        spec(300, fit="cover", background=[0, 0, 255]),
        spec(200, format="webp", quality=50),
        spec(100, progressive=True, background=[0, 255, 0]),
    ]

    square, webp, progressive = (opened(data) for data in child.run(source, specs).variants)

    assert (square.size, webp.size, progressive.size) == ((300, 300), (200, 133), (100, 67))
    assert (square.format, webp.format, progressive.info.get("progressive")) == ("JPEG", "WEBP", 1)
    assert near(square, (0, 0, 255))
    assert near(webp, (255, 255, 255))
    assert near(progressive, (0, 255, 0))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
def test_every_output_format_takes_colour_and_grey(child: DecoderProcess, format: str, mode: str) -> None:
    source = saved(Image.new("RGB", (200, 200), RED).convert(mode), "PNG")

    variant = opened(child.run(source, [spec(100, format=format)]).variants[0])

    assert variant.format == format.upper()
    assert near(variant, RED if mode == "RGB" else (81, 81, 81))


def test_a_cover_is_the_middle_of_the_picture_and_is_not_enlarged(child: DecoderProcess) -> None:
    picture = Image.new("RGB", (900, 300), "blue")
    picture.paste(RED, (300, 0, 600, 300))

    outcome = child.run(saved(picture, "PNG"), [spec(200, fit="cover"), spec(400, fit="cover")])

    small, large = (opened(data) for data in outcome.variants)
    assert (small.size, large.size) == ((200, 200), (400, 300))
    assert near(small, RED)


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((1, 3000), 150, (1, 150)),
        ((3000, 1), 150, (150, 1)),
        ((1000, 401), 150, (150, 60)),
        ((5, 7), 150, (5, 7)),
    ],
)
def test_sizes_are_rounded_half_up_with_one_pixel_at_least_and_never_enlarged(
    child: DecoderProcess, size: tuple[int, int], box: int, expected: tuple[int, int]
) -> None:
    outcome = child.run(saved(Image.new("RGB", size, RED), "PNG"), [spec(box)])

    assert opened(outcome.variants[0]).size == expected


def test_the_dominant_colour_is_the_commonest_one_and_not_a_mixture(child: DecoderProcess) -> None:
    picture = Image.new("RGB", (300, 300), (10, 200, 60))
    picture.paste((250, 250, 250), (0, 0, 120, 300))

    colour = child.run(saved(picture, "PNG")).answer["color"]

    assert all(abs(a - b) <= 4 for a, b in zip(bytes.fromhex(colour[1:]), (10, 200, 60), strict=True))


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "corrupt_image", "The file is empty."),
        (b"%PDF-1.4 ...", "unsupported_format", "This is a PDF document"),
        (b"<svg xmlns='x'/>", "unsupported_format", "This is an SVG drawing"),
        (b"P6 1 1 255 \0\0\0", "unsupported_format", "not a supported picture"),
        (b"\x89PNG\r\n\x1a\n rubbish", "corrupt_image", "The PNG picture is damaged or incomplete"),
        (b"GIF89a rubbish", "corrupt_image", "The GIF picture is damaged or incomplete"),
    ],
)
def test_what_is_no_picture_is_refused_in_words_for_a_person(
    child: DecoderProcess, data: bytes, code: str, words: str
) -> None:
    outcome = child.run(data)

    assert (outcome.status, outcome.code) == ("refused", code)
    assert words in outcome.answer["message"]
    assert len(outcome.answer["message"]) <= 300
    assert outcome.answer["message"].isprintable()


@pytest.mark.fault(39)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_half_a_jpeg_is_refused_and_not_half_grey(
    child: DecoderProcess, share: float, options: dict[str, bool]
) -> None:
    noise = Image.frombytes("RGB", (200, 150), os.urandom(90_000)).resize((800, 600))
    whole = saved(noise, "JPEG", **options)

    outcome = child.run(whole[: int(len(whole) * share)])

    assert outcome.code == "corrupt_image"
    assert outcome.variants == []


@pytest.mark.fault(39)
def test_a_jpeg_with_a_hole_in_the_middle_is_refused_too(child: DecoderProcess) -> None:
    noise = Image.frombytes("RGB", (200, 150), os.urandom(90_000)).resize((800, 600))
    data = bytearray(saved(noise, "JPEG"))
    middle = len(data) // 2
    data[middle : middle + 6000] = bytes(6000)

    assert child.run(bytes(data)).code == "corrupt_image"


def test_damaged_pictures_are_accepted_as_far_as_they_go_where_that_is_asked_for() -> None:
    whole = jpeg((800, 600))

    with DecoderProcess(names=["jpeg"], damaged="accept") as lenient:
        outcome = lenient.run(whole[: len(whole) // 2])

    assert outcome.status == "done"
    assert opened(outcome.variants[1]).size == (800, 600)


@pytest.mark.fault(38)
def test_too_many_pixels_are_refused_from_the_header_in_no_time(child: DecoderProcess) -> None:
    source = saved(Image.new("1", (10_001, 10_000)), "PNG")

    began = child.cpu_ms()
    outcome = child.run(source)

    assert child.cpu_ms() - began < 100
    assert outcome.code == "too_many_pixels"
    assert outcome.answer["message"].startswith("The picture has 100.01 megapixels (10001 x 10000)")


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with DecoderProcess(names=["jpeg"], max_bytes=1000) as child:
        outcome = child.run(b"not as many as that", size=1001)  # reading would find that it has changed

    assert outcome.code == "source_too_large"


def test_a_format_that_is_switched_off_is_refused_by_name() -> None:
    with DecoderProcess(names=["jpeg"]) as child:
        for format in ("PNG", "BMP"):
            outcome = child.run(saved(Image.new("RGB", (9, 9)), format))

            assert outcome.code == "unsupported_format"
            assert outcome.answer["message"] == f"This is a {format} picture, not a supported picture (JPEG)."


def test_a_picture_for_the_other_kind_of_child_was_swapped_behind_the_parents_back() -> None:
    with DecoderProcess("vips", names=["jpeg", "bmp"]) as child:
        assert child.run(saved(Image.new("RGB", (9, 9)), "BMP")).status == "changed"


def test_memory_that_is_not_there_is_said_and_the_next_picture_goes_on() -> None:
    big = saved(Image.new("RGB", (6000, 6000), RED), "JPEG", progressive=True)

    with DecoderProcess(names=["jpeg"], memory_mb=140) as child:
        outcome = child.run(big)

        assert outcome.code == "too_much_memory"
        assert child.run(jpeg()).status == "done"


def test_a_bug_is_reported_with_its_traceback_and_ends_the_child() -> None:
    with DecoderProcess(names=["jpeg"]) as child:
        outcome = child.run(jpeg(), [spec(150, quality="high")])

        assert outcome.status == "bug"
        assert "high" in outcome.answer["message"]
        assert "Traceback" in outcome.answer["traceback"]
        assert child.wait(5) == 0


def test_pictures_leave_neither_memory_nor_descriptors_behind(child: DecoderProcess) -> None:
    source = jpeg((2000, 1500))

    def grows_by(pictures: int) -> int:
        before = child.resident()
        for _ in range(pictures):
            child.run(source)
        return child.resident() - before

    grows_by(10)
    # What an allocator keeps comes once; a leak comes each time.
    assert any(grows_by(20) < 1024 * 1024 for _ in range(4))
    assert child.run(b"").code == "corrupt_image"
    time.sleep(0.02)
    assert child.descriptors() == {0, 1, 2, 3}


def near(picture: Image.Image, colour: tuple[int, int, int], by: int = 6) -> bool:
    middle = picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2))
    assert isinstance(middle, tuple)
    return all(abs(a - b) <= by for a, b in zip(middle, colour, strict=True))


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_no_variant_of_a_turned_photo_has_its_metadata(
    child: DecoderProcess, orientation: int, format: str
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8825] = orientation, "A maker", {1: "N", 2: (48.0, 0.0, 0.0)}
    source = jpeg((300, 200), exif=exif)

    variant = child.run(source, [spec(150, format=format, quality=60)]).variants[0]

    assert opened(variant).size == ((150, 100) if orientation == 1 else (100, 150))
    assert opened(variant).info.get("exif") is None
    assert b"Exif" not in variant
    assert b"A maker" not in variant


def test_what_was_wrong_with_a_picture_is_not_held_against_the_next(child: DecoderProcess) -> None:
    whole = jpeg((320, 200), quality=90, restart_marker_blocks=5)
    tables = whole.index(b"\xff\xdb")
    odd = whole[:tables] + b"seventeen letters" + whole[tables:]
    assert child.run(odd).status == "done"

    for _ in range(3):
        assert child.run(whole[:-20] + b"\xff\xd9").code == "corrupt_image"
        assert child.run(odd).status == "done"
