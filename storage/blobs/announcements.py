"""What a bucket announces by itself: originals that a copy writes are announced like those of apps."""

from xml.etree.ElementTree import Element

from storage.blobs.raw import ask, expected
from storage.blobs.s3_place import S3Place
from storage.keys import UPLOADS

_WRITTEN = "s3:ObjectCreated:"
_KINDS = ("QueueConfiguration", "TopicConfiguration", "CloudFunctionConfiguration")


def announces_originals(place: S3Place) -> bool:
    """Whether somebody is told of each original that is written there. Raises: BlobsUnavailable."""
    return is_told(ask(place, {"notification": ""}), place.prefix)


def is_told(answer: Element, prefix: str) -> bool:
    """Whether what S3 answers names somebody who is told of originals in the storage at `prefix`.

    Raises: BlobsUnavailable where that is something else.
    """
    found = expected(answer, "NotificationConfiguration")
    folder = f"{prefix}/{UPLOADS}/" if prefix else f"{UPLOADS}/"
    rules = [one for kind in _KINDS for one in found.iter(kind)]
    return found.find("EventBridgeConfiguration") is not None or any(
        _touches(one, folder) for one in rules if _is_of_writing(one)
    )


def _is_of_writing(rule: Element) -> bool:
    return any((event.text or "").startswith(_WRITTEN) for event in rule.iter("Event"))


def _touches(rule: Element, folder: str) -> bool:
    prefixes = [
        one.findtext("Value", "")
        for one in rule.iter("FilterRule")
        if one.findtext("Name", "").lower() == "prefix"
    ]
    return all(folder.startswith(prefix) or prefix.startswith(folder) for prefix in prefixes)
