"""What a bucket does with objects by itself: rules that would eat what is needed, or the trash too soon."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from xml.etree.ElementTree import Element

from storage.blobs.raw import ask, expected
from storage.blobs.s3_place import S3Place
from storage.keys import TRASH, UPLOADS, VARIANTS

_DAY_S = 24 * 3600
_NOT_READABLE = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_NO_RULES = "NoSuchLifecycleConfiguration"


@dataclass(frozen=True)
class Rule:
    """A lifecycle rule; `expires_days` is None where it deletes nothing, 0 where it does so at a date.

    It takes objects of more than `over_bytes` and less than `under_bytes`, or with the tags that it names.
    """

    name: str
    prefix: str
    is_enabled: bool = True
    expires_days: int | None = None
    archives: bool = False
    over_bytes: int = -1
    under_bytes: float = inf
    by_tags: bool = False


def read_rules(place: S3Place) -> Sequence[Rule]:
    """The lifecycle rules of a bucket. Raises: BlobsUnavailable."""
    answer = ask(place, {"lifecycle": ""})
    return [] if answer.findtext("Code") == _NO_RULES else rules_in(answer)


def rules_in(answer: Element) -> Sequence[Rule]:
    """The rules as S3 answers them. Raises: BlobsUnavailable where that is something else."""
    return [_rule(one) for one in expected(answer, "LifecycleConfiguration").iter("Rule")]


def _rule(one: Element) -> Rule:
    expires = one.find("Expiration/Days") is not None or one.find("Expiration/Date") is not None
    return Rule(
        name=one.findtext("ID") or "without a name",
        prefix=_chosen(one, "Prefix") or one.findtext("Prefix") or "",
        is_enabled=one.findtext("Status") == "Enabled",
        expires_days=int(one.findtext("Expiration/Days", "0")) if expires else None,
        archives=any(into.text in _NOT_READABLE for into in one.iterfind("Transition/StorageClass")),
        over_bytes=int(_chosen(one, "ObjectSizeGreaterThan") or -1),
        under_bytes=float(_chosen(one, "ObjectSizeLessThan") or inf),
        by_tags=any(one.find(path) is not None for path in ("Filter/And/Tag", "Filter/Tag")),
    )


def _chosen(one: Element, by: str) -> str | None:
    return one.findtext(f"Filter/And/{by}") or one.findtext(f"Filter/{by}")


def find_harm(
    rules: Sequence[Rule], prefix: str, retention_s: float, largest_bytes: int, *, by_tags: bool = False
) -> Iterator[str]:
    """What each enabled rule would do to the storage at `prefix`, in words, where it may not.

    Larger originals than that are refused, and an empty one is none. Rules `by_tags` are another question:
    this program tags nothing.
    """
    for rule in rules:
        has_sizes = rule.under_bytes > 1 and rule.over_bytes < largest_bytes
        if rule.is_enabled and has_sizes and rule.by_tags == by_tags:
            yield from (f"the lifecycle rule {rule.name} {harm}" for harm in _harm(rule, prefix, retention_s))


def _harm(rule: Rule, prefix: str, retention_s: float) -> Iterator[str]:
    for area in (UPLOADS, VARIANTS):
        if _touches(rule, prefix, area):
            if rule.expires_days is not None:
                yield f"deletes what lies in {area}/"
            if rule.archives:
                yield f"makes what lies in {area}/ unreadable (Glacier)"
    days = rule.expires_days
    if days is not None and _touches(rule, prefix, TRASH) and days * _DAY_S < retention_s:
        yield f"empties {TRASH}/ before MEDIA_RETENTION is over"


def _touches(rule: Rule, prefix: str, area: str) -> bool:
    folder = f"{prefix}/{area}/" if prefix else f"{area}/"
    return folder.startswith(rule.prefix) or rule.prefix.startswith(folder)
