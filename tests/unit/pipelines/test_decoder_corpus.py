"""Corpus and cases through the decoder's children: right or refused, each as its manifest says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from PIL import Image, ImageStat

from tests import corpus
from tests.corpus import Answer, Entry
from tests.support.decoder_child import BOXES
from tests.support.picture_folders import case_folders, corpus_folder

CORPUS = corpus_folder()
CASES = case_folders()


@dataclass(frozen=True)
class JudgedFolder:
    """Pictures of one folder, and what its manifest knows of each."""

    folder: Path
    entries: list[Entry]


@pytest.fixture(scope="module", params=["some", "cases", pytest.param("all", marks=pytest.mark.campaign)])
def known(request: pytest.FixtureRequest) -> list[JudgedFolder]:
    """Of the corpus all that must be refused, and a twentieth of the others; in a campaign all of it.

    Or every case of the folders of cases.
    """
    if request.param == "cases":
        if not CASES:
            pytest.skip(
                "no cases of pictures: list their folders in MEDIA_TEST_CASES or put them in ../shared/cases"
            )
        return [JudgedFolder(folder, corpus.manifest(folder)) for folder in CASES]
    if CORPUS is None:
        pytest.skip("no corpus of pictures: set MEDIA_TEST_CORPUS or put it at ../shared/corpus")
    entries = corpus.manifest(CORPUS)
    if request.param == "some":
        entries = [
            one for one in entries if one["expect"] == "reject" or crc32(one["path"].encode()) % 20 == 0
        ]
    return [JudgedFolder(CORPUS, entries)]


@pytest.fixture(scope="module")
def entries(known: list[JudgedFolder]) -> list[Entry]:
    return [entry for one in known for entry in one.entries]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def results(known: list[JudgedFolder], out: Path) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    for one in known:
        answers |= corpus.run(one.folder, one.entries, out)
    return answers


def test_good_pictures_are_rendered_and_bad_ones_refused_with_a_code(
    entries: list[Entry], results: dict[str, Answer]
) -> None:
    wrong = [line for entry in entries if (line := corpus.misjudged(entry, results[entry["path"]]))]

    assert wrong == []


def test_every_refusal_is_a_sentence_without_jargon_paths_or_addresses(results: dict[str, Answer]) -> None:
    for path, answer in results.items():
        if "error" in answer:
            assert answer["message"].startswith(("The ", "This ")), path
            assert answer["message"].endswith("."), path
            assert not any(odd in answer["message"] for odd in ("vips", "0x", "/", "\n")), answer


def test_every_variant_has_the_size_and_the_colours_of_its_picture(
    entries: list[Entry], results: dict[str, Answer], out: Path
) -> None:
    failures = [
        f"{entry['path']} {box}: {fault}"
        for entry in entries
        if entry["expect"] == "ok"
        for box in BOXES
        if (fault := fault_of(Image.open(out / results[entry["path"]][str(box)]), entry, box))
    ]

    assert failures == []


def test_parts_of_a_variant_have_the_colours_that_the_manifest_says(
    entries: list[Entry], results: dict[str, Answer], out: Path
) -> None:
    rendered = [entry for entry in entries if "regions" in entry and "error" not in results[entry["path"]]]

    for entry in rendered:
        for box in BOXES:
            with Image.open(out / results[entry["path"]][str(box)]) as variant:
                assert faults_in_regions(variant, entry["regions"]) == [], (entry["path"], box)


def faults_in_regions(variant: Image.Image, regions: list[dict[str, Any]]) -> list[str]:
    """The regions (left, top, right, bottom as fractions) whose mean colour is not as the manifest has it."""
    picture = variant.convert("RGB")
    means = [ImageStat.Stat(picture.crop(place(region["box"], *picture.size))).mean for region in regions]
    return [
        f"{region['box']} is {[round(level) for level in mean]}, not {region}"
        for region, mean in zip(regions, means, strict=True)
        if not is_as_said(mean, region, means[0])
    ]


def place(box: list[float], width: int, height: int) -> tuple[int, int, int, int]:
    left, top = int(box[0] * width), int(box[1] * height)
    return left, top, max(left + 1, int(box[2] * width)), max(top + 1, int(box[3] * height))


def is_as_said(mean: list[float], region: dict[str, Any], first: list[float]) -> bool:
    wanted = region.get("rgb_any") or ([region["rgb"]] if "rgb" in region else [])
    far = [max(abs(a - b) for a, b in zip(mean, colour, strict=True)) for colour in wanted]
    level = dict(zip("rgb", mean, strict=True))
    orders = [order for order in region.get("order", "").split(",") if order]
    return (
        (not far or min(far) <= region["tol"])
        and all(a >= b for a, b in zip(mean, region.get("at_least", mean), strict=True))
        and all(level[order[0]] - level[order[2]] > region.get("spread", 20) for order in orders)
        and (sum(mean) - sum(first)) / 3 >= region.get("brighter_than_first", -256)
    )


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        ({"rgb": [200, 40, 40], "tol": 6}, True),
        ({"rgb": [200, 40, 60], "tol": 6}, False),
        ({"rgb_any": [[0, 0, 0], [200, 40, 44]], "tol": 6}, True),
        ({"at_least": [190, 30, 30]}, True),
        ({"at_least": [190, 30, 50]}, False),
        ({"order": "r>g,r>b", "spread": 60}, True),
        ({"order": "b>g"}, False),
        ({"brighter_than_first": 60}, False),
        ({}, True),
    ],
)
def test_regions_are_judged_by_what_the_manifest_says_of_them(said: dict[str, Any], holds: bool) -> None:
    picture = Image.new("RGB", (100, 50), (200, 40, 40))

    assert (faults_in_regions(picture, [{"box": [0.1, 0.1, 0.9, 0.9], **said}]) == []) is holds


def fault_of(variant: Image.Image, entry: Entry, box: int) -> str:
    """What is wrong with a variant, empty if nothing."""
    with variant:
        expected = entry["expected"][str(box)]
        if any(abs(one - other) > 1 for one, other in zip(variant.size, expected, strict=True)):
            return f"{variant.size} instead of {expected}"
        if set(variant.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"}:
            return f"metadata: {sorted(variant.info)}"
        means = [mean for mean in (entry["mean_srgb"], *(entry.get("mean_srgb_alt") or ())) if mean]
        if means and not entry.get("skip_content"):
            found = ImageStat.Stat(variant.convert("RGB")).mean
            best = min(max(abs(a - b) for a, b in zip(found, mean, strict=True)) for mean in means)
            return f"{found} instead of {means[0]}" if best > entry.get("mean_tol", 6) else ""
    return ""
