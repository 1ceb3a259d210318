"""What the documentation takes from the code."""

import re

import pytest

from pipelines.formats import FORMATS
from scripts.readme import API, COMMAND, METRICS, api, updated, with_metrics
from worker.series import SERIES
from worker.settings import Settings, variable

EMPTY = "# x\n<!-- settings -->\n<!-- /settings -->\nmid\n<!-- formats -->\nstale\n<!-- /formats -->\nend\n"


def test_every_setting_is_in_the_table_with_its_default_as_one_writes_it() -> None:
    cells = dict(re.findall(r"^\| `(MEDIA_\w+)` \| (.*?) \|", updated(EMPTY), re.MULTILINE))

    assert list(cells) == [variable(name) for name in Settings.model_fields]
    assert cells["MEDIA_DELETE_ORIGINALS"] == "`0`"
    assert cells["MEDIA_FORMATS"].startswith("`jpeg,png,")
    assert cells["MEDIA_CPUS"] == "CPUs of the cgroup or affinity mask"
    assert cells["MEDIA_RECIPES"] == cells["MEDIA_S3_ENDPOINT"] == ""


def test_every_format_is_in_the_table_with_the_largest_picture_that_fits() -> None:
    rows = re.findall(
        r"^\| (\w+) \| (libvips|Pillow|libvips, Pillow) \| (\d+) MP \|", updated(EMPTY), re.MULTILINE
    )

    assert [title for title, _, _ in rows] == [known.title for known in FORMATS]
    assert all(0 < int(megapixels) <= 100 for _, _, megapixels in rows)


def test_the_rest_of_the_page_stays_as_it_is() -> None:
    page = updated(EMPTY)

    assert page.startswith("# x\n<!-- settings -->\n| variable |")
    assert "<!-- /settings -->\nmid\n<!-- formats -->\n" in page
    assert page.endswith("<!-- /formats -->\nend\n")
    assert "stale" not in page
    assert updated(page) == page


@pytest.mark.parametrize("page", ["", EMPTY * 2, EMPTY.replace("<!-- /formats -->", "")])
def test_a_page_without_one_place_for_each_part_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        updated(page)


def test_every_series_is_in_the_page_of_metrics_with_its_labels_and_its_question() -> None:
    page = with_metrics("<!-- metrics -->\n<!-- /metrics -->\n")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .* \| (\w+) \| (.*\?.*) \|$", page, re.MULTILINE)

    assert rows == [(series.name, series.type, series.of, series.question) for series in SERIES]
    assert "| `part`: worker, decoders |" in page


def test_the_description_of_the_api_is_up_to_date() -> None:
    assert API.read_text("utf-8") == api(), f"run {COMMAND}"


def test_the_page_of_metrics_is_up_to_date_and_asks_for_what_there_is() -> None:
    page = METRICS.read_text("utf-8")
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bmedia_\w+", page)}

    assert page == with_metrics(page), f"docs/metrics.md is out of date; update it with `{COMMAND}`"
    assert asked == {series.name for series in SERIES}
