"""Questions for which the client has no verb: the client signs them, the standard library asks them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote_plus
from urllib.request import Request, build_opener
from xml.etree import ElementTree

from storage.blobs.s3_client import sign_query
from storage.blobs.s3_errors import of_answer, of_connection
from storage.blobs.s3_place import S3Place
from storage.errors import BlobsUnavailable

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class RawObject:
    """An object as a listing names it, with any key: size in bytes, when it was written (s), ETag."""

    key: str
    bytes: int
    modified: int
    e_tag: str


@dataclass(frozen=True)
class RawFolder:
    """What the keys of some objects begin with, up to a slash."""

    key: str


def list_raw(place: S3Place, start: str, after: str) -> Sequence[RawObject]:
    """The next objects with keys that begin with `start` and come after `after`. Raises: BlobsUnavailable."""
    folder = f"{place.prefix}/" if place.prefix else ""
    # Encoded, because no XML can name a control character.
    query = {"list-type": "2", "encoding-type": "url", "prefix": folder + start}
    answer = ask(place, query | ({"start-after": folder + after} if after else {}))
    return [_object(one, folder) for one in expected(answer, "ListBucketResult").iter("Contents")]


def list_folders(place: S3Place, start: str, after: str, token: str) -> tuple[Sequence[RawFolder], str]:
    """The next folders that begin with `start`, and the token of those that follow them.

    They come after `after`, or where a token says. Raises: BlobsUnavailable.
    """
    folder = f"{place.prefix}/" if place.prefix else ""
    query = {"list-type": "2", "encoding-type": "url", "delimiter": "/", "prefix": folder + start}
    if token:
        query["continuation-token"] = token
    elif after:
        query["start-after"] = folder + after
    answer = expected(ask(place, query), "ListBucketResult")
    found = [unquote_plus(one.findtext("Prefix", "")) for one in answer.iter("CommonPrefixes")]
    goes_on = answer.findtext("IsTruncated") == "true"
    following = answer.findtext("NextContinuationToken", "") if goes_on else ""
    return [RawFolder(one.removeprefix(folder)) for one in found], following


def ask(place: S3Place, query: Mapping[str, str]) -> ElementTree.Element:
    """What the bucket answers to that query, be it an error; no tag has a namespace.

    Raises: BlobsUnavailable.
    """
    try:
        answer = ElementTree.fromstring(_content(sign_query(place, query)))  # noqa: S314 (expat bounds entities)
    except (OSError, HTTPException, ElementTree.ParseError) as error:
        reason = type(error).__name__ if isinstance(error, HTTPException) else str(error)
        raise BlobsUnavailable(f"the storage failed at the bucket: {reason}") from error
    for one in answer.iter():
        one.tag = one.tag.rpartition("}")[2]
    return answer


def expected(answer: ElementTree.Element, tag: str) -> ElementTree.Element:
    """The answer itself, if it is one of that kind. Raises: BlobsUnavailable."""
    if answer.tag == tag:
        return answer
    raise BlobsUnavailable(f"the storage failed at the bucket: {answer.findtext('Code', answer.tag)}")


def _content(url: str) -> bytes:
    try:
        with build_opener().open(url, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except HTTPError as error:
        return error.read() or f"<Error><Code>{error.code}</Code></Error>".encode()


def delete_if(url: str, e_tag: str) -> None:
    """Remove the object at a signed URL if it has that ETag. Raises: what the client raises."""
    request = Request(url, method="DELETE", headers={"If-Match": e_tag})  # noqa: S310 (the client made the URL)
    try:
        with build_opener().open(request, timeout=_TIMEOUT_S) as answer:
            answer.read()
    except HTTPError as error:
        raise of_answer(error.code, error.read().decode(errors="replace")) from error
    except (OSError, HTTPException) as error:
        raise of_connection(error) from error


def _object(one: ElementTree.Element, folder: str) -> RawObject:
    key = unquote_plus(one.findtext("Key", "")).removeprefix(folder)
    modified = datetime.fromisoformat(one.findtext("LastModified", ""))
    return RawObject(key, int(one.findtext("Size", "")), int(modified.timestamp()), one.findtext("ETag", ""))
