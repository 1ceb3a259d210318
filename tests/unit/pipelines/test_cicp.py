"""Numbers in boxes and chunks: what is malformed says nothing, and costs next to nothing."""

import io
import random
import struct
from time import process_time

import pytest
from PIL import Image, ImageCms

from pipelines.decoder import bitstreams, boxes, cicp, colour
from pipelines.decoder.cicp import Boxes, Code
from tests.support import light
from tests.support.iso_boxes import box, nclx, numbered_in_stream, with_property, with_reference

GREY = [(0.5, 0.5, 0.5)]


def test_the_numbers_of_the_primary_image_are_read_from_its_boxes() -> None:
    content = with_reference(light.heic(GREY, 10, 9, 16), b"prem", 1, 2)

    assert cicp.of_boxes(content) == Boxes(Code(9, 16), premultiplied=True, size=(64, 64))


def test_properties_and_references_of_another_item_do_not_matter() -> None:
    content = light.heic([(0.5, 0.5, 0.5, 0.5)], 8, 1, 13)
    other = content.replace(nclx(1, 13, 9), nclx(9, 16, 9))
    assert other != content

    swapped = bytearray(with_reference(other, b"prem", 2, 1))
    at = swapped.index(b"pitm") + 8
    swapped[at : at + 2] = struct.pack(">H", 2)  # the opacity is primary, and has no colour

    assert cicp.of_boxes(bytes(swapped)) == Boxes(None, premultiplied=True, size=(64, 64))


def test_of_a_grid_without_numbers_those_of_its_tiles_count() -> None:
    content = light.heic(GREY * 4, 10, 9, 16, tile_size=64)
    of_grid = bytes.fromhex("0001 03 01 85 03")  # item 1 has three properties, the third of all is the colour
    assert content.count(of_grid) == 1

    without = content.replace(of_grid, of_grid[:-1] + b"\x01")

    assert cicp.of_boxes(without).code == Code(9, 16)


def test_numbers_of_a_grid_go_before_those_of_its_tiles() -> None:
    content = light.heic(GREY * 4, 10, 9, 16, tile_size=64)

    assert cicp.of_boxes(with_property(content, b"colr", nclx(12, 13))).code == Code(12, 13)


def test_of_two_chunks_of_numbers_the_first_counts() -> None:
    content = light.png(GREY, 8, light.cicp(9, 16) + light.cicp(12, 13))

    assert cicp.of_png(bytearray(content)) == Code(9, 16)


@pytest.mark.parametrize(
    ("numbers", "meant"),
    [((2, 16), (9, 16)), ((2, 18), (9, 18)), ((2, 4), (1, 4)), ((12, 2), (12, 13)), ((2, 1), (1, 13))],
)
def test_where_one_of_two_numbers_says_nothing_it_is_the_usual_one(
    numbers: tuple[int, int], meant: tuple[int, int]
) -> None:
    assert cicp.named(*numbers) == Code(*meant)


def test_numbers_go_before_a_broken_profile_and_those_of_hdr_before_any() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    assert colour.numbers_beside(b"broken", Code(12, 13)) == Code(12, 13)
    assert colour.numbers_beside(srgb, Code(12, 13)) is None
    assert colour.numbers_beside(srgb, Code(9, 16)) == Code(9, 16)


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_where_no_box_tells_the_numbers_of_a_heic_its_parameter_set_does(depth: int) -> None:
    content = light.heic(GREY * 3, depth, 9, 18, chroma=444 if depth == 10 else 420, tile_size=64)

    in_stream = content.replace(b"colrnclx", b"freenclx")
    in_neither = content.replace(b"colrnclx", b"colrprof")

    assert in_stream != content
    assert cicp.of_boxes(in_stream).code == Code(9, 18)
    assert cicp.of_boxes(in_neither).code is None


def test_where_no_box_tells_the_numbers_of_an_avif_its_sequence_header_does() -> None:
    assert cicp.of_boxes(numbered_in_stream(_avif(), 9, 16)).code == Code(9, 16)
    assert cicp.of_boxes(numbered_in_stream(_avif(), 12, 13)).code == Code(12, 13)
    assert cicp.of_boxes(numbered_in_stream(_avif(), 1, 13)).code is None


def _avif() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 100, 50)).save(file, "AVIF")
    return file.getvalue()


def test_headers_in_the_stream_that_are_cut_or_garbled_say_something_or_nothing() -> None:
    dice = random.Random(2)
    for content in (
        light.heic(GREY, 10, 9, 18).replace(b"colrnclx", b"freenclx"),
        numbered_in_stream(_avif(), 9, 16),
    ):
        start = content.index(b"hvcC" if b"hvcC" in content else b"mdat")
        for _ in range(500):
            garbled = bytearray(content)
            for _ in range(dice.choice((1, 3, 20))):
                garbled[dice.randrange(start, min(start + 120, len(content)))] ^= 1 << dice.randrange(8)
            assert isinstance(cicp.of_boxes(garbled), Boxes)


@pytest.mark.parametrize("byte", [0, 1, 0x20, 0x55, 0x80, 0xFF])
def test_a_header_in_the_stream_of_one_byte_repeated_costs_next_to_nothing(byte: int) -> None:
    body, since = bytes([byte]) * 1_000_000, process_time()

    bitstreams.of_hevc(bytes(22) + b"\xff" + body)
    bitstreams.of_hevc(bytes(22) + b"\1" + b"\x21\0\1\xff\xff" + body)
    bitstreams.of_av1(body)
    bitstreams.of_av1(b"\x08" + body)

    assert process_time() - since < 0.1


@pytest.mark.parametrize("depth", [8, 10])
def test_boxes_that_are_cut_or_garbled_say_something_or_nothing(depth: int) -> None:
    content, dice = with_reference(light.heic(GREY, depth, 9, 16), b"prem", 1, 2), random.Random(depth)
    end = content.index(b"mdat")
    for length in range(end):
        assert isinstance(cicp.of_boxes(content[:length]), Boxes)
    for _ in range(500):
        garbled = bytearray(content[:end])
        for _ in range(dice.choice((1, 3, 20))):
            garbled[dice.randrange(end)] = dice.choice((0, 1, 127, 128, 255))
        assert isinstance(cicp.of_boxes(garbled), Boxes)


def test_chunks_that_are_cut_or_garbled_say_something_or_nothing() -> None:
    content, dice = light.png(GREY, 8, light.cicp(9, 16)), random.Random(1)
    assert cicp.of_png(bytearray(content)) == Code(9, 16)
    for length in range(len(content)):
        assert cicp.of_png(bytearray(content[:length])) in (None, Code(9, 16))
    for _ in range(500):
        garbled = bytearray(content)
        garbled[dice.randrange(8, len(content))] ^= 1 << dice.randrange(8)
        assert isinstance(cicp.of_png(garbled), Code | None)


def test_a_chunk_with_a_false_checksum_or_behind_the_pixels_says_nothing() -> None:
    plain, chunk = light.png(GREY, 8), light.cicp(9, 16)

    assert cicp.of_png(bytearray(plain[:33] + chunk[:-1] + b"\0" + plain[33:])) is None
    assert cicp.of_png(bytearray(plain[:-12] + chunk + plain[-12:])) is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + light.chunk(b"teXt", b"") * 400_000,
        box(b"free", b"") * 1_000_000,
        box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"colr", b"") * 1_000_000))),
        box(b"meta", bytes(4) + box(b"iref", bytes(4) + box(b"dimg", b"\0\1\xff\xff" + bytes(131_070)) * 60)),
        box(b"meta", bytes(4) + box(b"iprp", box(b"ipma", bytes(4) + b"\xff" * 4 + bytes(6_000_000)))),
        box(b"meta", bytes(4) + box(b"iprp", box(b"ipma", bytes(12)) * 100_000)),
    ],
    ids=["chunks", "boxes", "properties", "references", "associations", "lists"],
)
def test_megabytes_of_tiny_parts_cost_next_to_nothing(content: bytes) -> None:
    data, since = bytearray(content), process_time()

    assert cicp.of_png(data) is None
    assert cicp.of_boxes(data) == Boxes()
    assert process_time() - since < 0.2


def test_thousands_of_references_to_an_image_of_thousands_cost_next_to_nothing() -> None:
    references = b"".join(box(b"auxl", struct.pack(">HHH", n, 1, 1)) for n in range(2, 4000))
    numbers = struct.pack(">HB", 7, 0) * 65_000
    described = box(b"ipco", b"") + box(b"ipma", bytes(4) + struct.pack(">I", 65_000) + numbers)
    inside = box(b"pitm", b"\0\0\0\0\0\1") + box(b"iref", bytes(4) + references) + box(b"iprp", described)
    content, since = bytearray(box(b"meta", bytes(4) + inside)), process_time()

    assert cicp.of_boxes(content) == Boxes()
    assert process_time() - since < 0.3


@pytest.mark.parametrize("count", [20, 200, 4000])
def test_images_of_one_description_that_is_given_again_and_again_cost_next_to_nothing(count: int) -> None:
    references = b"".join(box(b"auxl", struct.pack(">HHH", n % count, 1, 1)) for n in range(4000))
    numbers = b"".join(struct.pack(">HB", n, 255) + b"\1" * 255 for n in range(count))
    lists = box(b"ipma", bytes(4) + struct.pack(">I", count) + numbers) * (4000 // count)
    described = box(b"ipco", box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:1\0")) + lists
    inside = box(b"pitm", b"\0\0\0\0\0\1") + box(b"iref", bytes(4) + references) + box(b"iprp", described)
    content, since = bytearray(box(b"meta", bytes(4) + inside)), process_time()

    assert cicp.of_boxes(content) == Boxes()
    assert process_time() - since < 0.2


@pytest.mark.parametrize("count", [0, 1, 100, 2**32 - 1])
@pytest.mark.parametrize("place", [0, 144, 2**32 - 1])
def test_tags_of_a_profile_that_lie_nowhere_say_nothing(count: int, place: int) -> None:
    entry = struct.pack(">4sII", b"cicp", place, 12)

    for rest in (b"", b"cicp", b"cicp" + bytes(7), bytes(12)):
        assert cicp.of_profile(bytes(128) + struct.pack(">I", count) + entry + rest) is None


@pytest.mark.parametrize(
    ("fields", "width", "numbers"),
    [(b"\x83\1\x7f", 1, [3, 1, 127]), (b"\x80\3\1\3\x81\x80", 2, [3, 259, 384])],
)
def test_numbers_of_properties_have_a_bit_for_essential_in_either_width(
    fields: bytes, width: int, numbers: list[int]
) -> None:
    assert [*boxes.Associated(1, memoryview(fields), width, again=False)] == numbers


def test_a_coded_image_ends_where_its_place_says() -> None:
    content = _avif()
    [image] = [content[at + 4 :] for at in range(len(content)) if content.startswith(b"mdat", at)]

    assert 0 < len(image) < 4096
    assert boxes.Images(content + box(b"free", bytes(4096))).beginning(1) == image


def test_opacity_is_called_so_in_the_words_of_hevc_or_of_every_codec() -> None:
    content = light.heic([(0.5, 0.5, 0.5, 0.5)], 8, 1, 13)
    name, other = b"urn:mpeg:hevc:2015:auxid:", b"urn:mpeg:mpegB:cicp:systems:auxiliary:"
    assert name + b"1" in content

    assert cicp.opacity(boxes.Images(content)) == [2]
    assert cicp.opacity(boxes.Images(content.replace(name + b"1", name + b"2"))) == []
    assert other + b"alpha" in light.avif([(0.5, 0.5, 0.5, 0.5)], 8, 1, 13)


def sequence_set(has: list[str]) -> bytes:
    """The bits of ITU-T H.265, 7.3.2.2 with such sub-layers: whether each has a profile, and a level."""
    layers, one, two = len(has), "1", "010"  # the numbers 0 and 1 in Exp-Golomb code
    bits = f"0000{layers:03b}1" + "1" * 96 + "".join(has) + "01" * (8 - layers if layers else 0)
    bits += "".join("10" * 44 * int(each[0]) + "01101011" * int(each[1]) for each in has)
    bits += one + two + two * 2 + "0" + one * 3 + "0" + one * 3 + one * 6  # sizes, depths, order, blocks
    bits += "0" + "11" + "0" + one + "0" + "11"  # lists, tools, PCM, references
    bits += "1" + "0" + "0" + "1" + "1010" + "1" + f"{9:08b}{16:08b}{9:08b}"  # usability
    unit = int(bits.ljust(-len(bits) // 8 * -8, "0"), 2).to_bytes(-(-len(bits) // 8))
    return bytes(22) + b"\1\x21\0\1" + struct.pack(">H", len(unit) + 2) + b"\x42\1" + unit


@pytest.mark.parametrize(
    "has", [[], ["00"], ["10"], ["01"], ["11"], ["11", "00", "01", "10"], ["11"] * 6], ids=str
)
def test_sub_layers_of_a_parameter_set_are_passed_over(has: list[str]) -> None:
    numbers = bitstreams.of_hevc(sequence_set(has))

    assert numbers is not None
    assert numbers[:2] == (9, 16)
