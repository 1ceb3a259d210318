"""The whole corpus through the decoder's children: right or refused, each as its manifest says."""

import os
from pathlib import Path
from zlib import crc32

import pytest
from PIL import Image, ImageStat

from tests import corpus
from tests.corpus import Answer, Entry
from tests.support.decoder_child import BOXES

HERE = Path(os.environ.get("MEDIA_TEST_CORPUS") or Path(__file__).parents[4] / "shared" / "corpus")

pytestmark = pytest.mark.skipif(
    not (HERE / "manifest.json").exists(),
    reason="no corpus: set MEDIA_TEST_CORPUS or put it at ../shared/corpus",
)


@pytest.fixture(scope="module", params=["some", pytest.param("all", marks=pytest.mark.campaign)])
def entries(request: pytest.FixtureRequest) -> list[Entry]:
    """The corpus: all that must be refused, and a twentieth of the pictures; all of them in a campaign."""
    known = corpus.manifest(HERE)
    if request.param == "all":
        return known
    return [one for one in known if one["expect"] != "ok" or crc32(one["path"].encode()) % 20 == 0]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="module")
def results(entries: list[Entry], out: Path) -> dict[str, Answer]:
    return corpus.run(HERE, entries, out)


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
