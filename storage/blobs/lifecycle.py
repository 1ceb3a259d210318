"""What a bucket does with objects by itself: rules that would eat what is needed, or the trash too soon."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from storage.blobs.s3_place import S3Place
from storage.errors import BackendMissing, BlobsUnavailable
from storage.keys import TRASH, UPLOADS, VARIANTS

_DAY_S = 24 * 3600
_NOT_READABLE = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_NO_RULES = "NoSuchLifecycleConfiguration"
_TIMEOUT_S = 5

Rule = Mapping[str, Any]
"""A rule as S3 answers it."""


def read_rules(place: S3Place) -> Sequence[Rule]:
    """The lifecycle rules of a bucket. Raises: BackendMissing without boto3, BlobsUnavailable."""
    if importlib.util.find_spec("boto3") is None:
        raise BackendMissing("lifecycle rules are read with boto3: pip install media-worker[sqs]")
    import boto3  # an extra, which takes long to import
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    config = Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 1})
    try:
        client = boto3.client("s3", endpoint_url=place.endpoint or None, config=config)
        rules: Sequence[Rule] = client.get_bucket_lifecycle_configuration(Bucket=place.bucket)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] == _NO_RULES:
            return []
        raise BlobsUnavailable(f"the lifecycle rules cannot be read: {error}") from error
    except BotoCoreError as error:
        raise BlobsUnavailable(f"the lifecycle rules cannot be read: {error}") from error
    return rules


def find_harm(rules: Sequence[Rule], prefix: str, retention_s: float) -> Iterator[str]:
    """What each enabled rule would do to the storage at `prefix`, in words, where it may not."""
    for rule in rules:
        if rule["Status"] == "Enabled":
            name = rule.get("ID") or "without a name"
            yield from (f"the lifecycle rule {name} {harm}" for harm in _harm(rule, prefix, retention_s))


def _harm(rule: Rule, prefix: str, retention_s: float) -> Iterator[str]:
    expiration = rule.get("Expiration", {})
    expires = "Days" in expiration or "Date" in expiration
    archives = any(move.get("StorageClass") in _NOT_READABLE for move in rule.get("Transitions", ()))
    for area in (UPLOADS, VARIANTS):
        if _touches(rule, prefix, area):
            if expires:
                yield f"deletes what lies in {area}/"
            if archives:
                yield f"makes what lies in {area}/ unreadable (Glacier)"
    if expires and _touches(rule, prefix, TRASH) and expiration.get("Days", 0) * _DAY_S < retention_s:
        yield f"empties {TRASH}/ before MEDIA_RETENTION is over"


def _touches(rule: Rule, prefix: str, area: str) -> bool:
    chosen = rule.get("Filter", {})
    of_rule: str = chosen.get("And", chosen).get("Prefix", rule.get("Prefix", ""))
    folder = f"{prefix}/{area}/" if prefix else f"{area}/"
    return folder.startswith(of_rule) or of_rule.startswith(folder)
