"""Lifecycle rules of a bucket: which of them a storage cannot live with."""

import pytest

from storage.blobs.lifecycle import Rule, find_harm

WEEK_S = 7 * 86_400
EATS_VARIANTS = {
    "ID": "old",
    "Status": "Enabled",
    "Filter": {"Prefix": "site/variants/"},
    "Expiration": {"Days": 30},
}
HARMLESS: dict[str, Rule] = {
    "of another folder": {"Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}},
    "switched off": {**EATS_VARIANTS, "Status": "Disabled"},
    "of uploads that were broken off": {
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
    "of the trash when its time is over": {
        "Status": "Enabled",
        "Filter": {"Prefix": "site/trash/"},
        "Expiration": {"Days": 8},
    },
    "to a cheaper class that can be read": {
        "Status": "Enabled",
        "Filter": {},
        "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}],
    },
}


@pytest.mark.parametrize("rule", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_rule_that_takes_nothing_that_is_needed_is_no_harm(rule: Rule) -> None:
    assert list(find_harm([rule], "site", WEEK_S)) == []


def test_a_rule_that_deletes_variants_is_named() -> None:
    assert list(find_harm([EATS_VARIANTS], "site", WEEK_S)) == [
        "the lifecycle rule old deletes what lies in variants/"
    ]


@pytest.mark.parametrize(
    "chosen", [{}, {"Filter": {}}, {"Prefix": ""}, {"Filter": {"And": {"Prefix": "si"}}}]
)
def test_a_rule_of_the_whole_bucket_deletes_all_of_it(chosen: Rule) -> None:
    rule = {**chosen, "ID": "all", "Status": "Enabled", "Expiration": {"Days": 3}}

    assert [harm.split(" all ")[1] for harm in find_harm([rule], "site", WEEK_S)] == [
        "deletes what lies in uploads/",
        "deletes what lies in variants/",
        "empties trash/ before MEDIA_RETENTION is over",
    ]


def test_an_archive_cannot_be_read() -> None:
    moves = [{"Days": 90, "StorageClass": "GLACIER"}]
    rule = {"Status": "Enabled", "Prefix": "site/uploads/2020/", "Transitions": moves}

    assert list(find_harm([rule], "site", WEEK_S)) == [
        "the lifecycle rule without a name makes what lies in uploads/ unreadable (Glacier)"
    ]
