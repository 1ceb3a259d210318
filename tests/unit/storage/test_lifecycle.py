"""Lifecycle rules of a bucket: which of them a storage cannot live with."""

from xml.etree.ElementTree import fromstring

import pytest

from storage.blobs.lifecycle import find_harm, rules_in
from storage.errors import BlobsUnavailable

WEEK_S = 7 * 86_400
EATS_VARIANTS = "<Filter><Prefix>site/variants/</Prefix></Filter><Expiration><Days>30</Days></Expiration>"
HARMLESS = {
    "of another folder": "<Filter><Prefix>logs/</Prefix></Filter><Expiration><Days>1</Days></Expiration>",
    "of uploads that were broken off": "<Filter><Prefix/></Filter><AbortIncompleteMultipartUpload>"
    "<DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
    "of the trash when its time is over": "<Filter><Prefix>site/trash/</Prefix></Filter>"
    "<Expiration><Days>8</Days></Expiration>",
    "to a cheaper class that can be read": "<Filter/><Transition><Days>30</Days>"
    "<StorageClass>STANDARD_IA</StorageClass></Transition>",
    "of empty objects": "<Filter><ObjectSizeLessThan>1</ObjectSizeLessThan></Filter>"
    "<Expiration><Days>1</Days></Expiration>",
    "of objects larger than any upload": "<Filter><And><Prefix>site/</Prefix><ObjectSizeGreaterThan>10485760"
    "</ObjectSizeGreaterThan></And></Filter><Expiration><Days>1</Days></Expiration>",
    "of tagged objects": "<Filter><Tag><Key>temp</Key><Value>1</Value></Tag></Filter>"
    "<Expiration><Days>1</Days></Expiration>",
    "of old versions": "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
}


def harm_of(rule: str, *, name: str = "", status: str = "Enabled", by_tags: bool = False) -> list[str]:
    """What the rule does to a storage at site/."""
    text = f"<Rule><ID>{name}</ID><Status>{status}</Status>{rule}</Rule>"
    rules = rules_in(fromstring(f"<LifecycleConfiguration>{text}</LifecycleConfiguration>"))
    return list(find_harm(rules, "site", WEEK_S, 10_485_760, by_tags=by_tags))


@pytest.mark.parametrize("rule", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_rule_that_takes_nothing_that_is_needed_is_no_harm(rule: str) -> None:
    assert harm_of(rule) == []


def test_a_rule_that_is_switched_off_is_no_harm() -> None:
    assert harm_of(EATS_VARIANTS, status="Disabled") == []


def test_a_rule_that_deletes_variants_is_named() -> None:
    assert harm_of(EATS_VARIANTS, name="old") == ["the lifecycle rule old deletes what lies in variants/"]


@pytest.mark.parametrize(
    "chosen",
    [
        "",
        "<Filter/>",
        "<Prefix/>",
        "<Filter><And><Prefix>si</Prefix><ObjectSizeLessThan>2</ObjectSizeLessThan></And></Filter>",
        "<Filter><ObjectSizeGreaterThan>10485759</ObjectSizeGreaterThan></Filter>",
    ],
)
@pytest.mark.parametrize("when", ["<Days>3</Days>", "<Date>2027-01-01T00:00:00Z</Date>"])
def test_a_rule_of_the_whole_bucket_deletes_all_of_it(chosen: str, when: str) -> None:
    found = harm_of(f"{chosen}<Expiration>{when}</Expiration>", name="all")

    assert [harm.split(" all ")[1] for harm in found] == [
        "deletes what lies in uploads/",
        "deletes what lies in variants/",
        "empties trash/ before MEDIA_RETENTION is over",
    ]


def test_an_archive_cannot_be_read() -> None:
    into = "<Transition><Days>90</Days><StorageClass>GLACIER</StorageClass></Transition>"

    assert harm_of(f"<Prefix>site/uploads/2020/</Prefix>{into}") == [
        "the lifecycle rule without a name makes what lies in uploads/ unreadable (Glacier)"
    ]


def test_what_is_no_list_of_rules_is_not_an_empty_one() -> None:
    with pytest.raises(BlobsUnavailable, match="AccessDenied"):
        rules_in(fromstring("<Error><Code>AccessDenied</Code></Error>"))


@pytest.mark.parametrize(
    "chosen",
    [
        "<Tag><Key>temp</Key><Value>1</Value></Tag>",
        "<And><Prefix>site/uploads/</Prefix><Tag><Key>a</Key><Value/></Tag><Tag><Key>b</Key></Tag></And>",
    ],
)
def test_a_rule_by_tags_may_be_one(chosen: str) -> None:
    rule = f"<Filter>{chosen}</Filter><Expiration><Days>1</Days></Expiration>"

    assert harm_of(rule) == []
    assert "deletes what lies in uploads/" in harm_of(rule, by_tags=True)[0]
