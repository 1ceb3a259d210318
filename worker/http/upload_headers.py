"""What a request says of an upload beside its bytes: in headers, in fields of a form, and in its token."""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request

from storage.catalog.records import StreamId
from worker.events import InvalidEvent, parse_event
from worker.http.bodies import METADATA, MOST_FIELD, RECIPE
from worker.http.problems import Problem, in_json
from worker.http.tokens import SignedToken
from worker.http.waiting import LONGEST_WAIT_S
from worker.json_errors import why_no_json
from worker.traceparent import parse_traceparent

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_WAIT = re.compile(r"""\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?""", re.IGNORECASE)
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/]*={0,2}):\s*(?:;[^,]*)?", re.IGNORECASE)
_SHA256_BYTES = 32


def idempotency_key(request: Request) -> str | None:
    """The header Idempotency-Key, a text of 1 to 255 characters. Raises: Problem (bad_request)."""
    key = _header(request, "Idempotency-Key")
    if key is None or _KEY.fullmatch(key):
        return key
    raise Problem("bad_request", "An Idempotency-Key has 1 to 255 visible characters of ASCII.")


def repr_digest(request: Request) -> bytes | None:
    """The SHA-256 that the picture must have (RFC 9530); other digests are left to others.

    Raises: Problem (bad_request).
    """
    header = ",".join(request.headers.getlist("repr-digest"))
    if not header:
        return None
    found: bytes | None = None
    for member in header.split(","):
        match = _MEMBER.fullmatch(member)
        if match is None:
            raise Problem("bad_request", "Repr-Digest must be: sha-256=:BASE64:.")
        if match[1].lower() == "sha-256":
            found = _sha256(match[2])
    return found


def preferred_wait_s(request: Request) -> int | None:
    """How long the caller prefers to wait for the variants (RFC 7240); a preference may be anything."""
    for header in request.headers.getlist("prefer"):
        for preference in header.split(","):
            if match := _WAIT.fullmatch(preference):
                return min(int(match[1]), LONGEST_WAIT_S)
    return None


@dataclass(frozen=True)
class UploadDetails:
    """What an upload's event says beside its source: checked like an event."""

    recipe: str
    metadata: Mapping[str, Any]
    traceparent: str | None

    def event(self, source: str, owner: str | None) -> dict[str, Any]:
        """The event of an original under that key; `owner`: whose it is, where the folder says another."""
        more = {"metadata": self.metadata, "traceparent": self.traceparent, "owner": owner}
        return {"source": source, "recipe": self.recipe} | {name: more[name] for name in more if more[name]}


class Wording:
    """What is said of uploads: known recipes, metadata that an event may have, within what a token allows."""

    def __init__(self, recipes: frozenset[str]) -> None:
        self._recipes = recipes

    def read(self, request: Request, fields: Mapping[str, bytes], token: SignedToken | None) -> UploadDetails:
        """What the headers and a form's fields say, each thing once.

        Raises: Problem (bad_request, invalid_event, unknown_recipe, forbidden).
        """
        recipe = _once("recipe", _header(request, "Media-Recipe"), _text(fields.get(RECIPE)))
        given = _header(request, "Media-Metadata")
        header = None if given is None else given.encode("latin-1")
        raw = _once("metadata", header, fields.get(METADATA))
        places = {
            "recipe": "Media-Recipe" if "media-recipe" in request.headers else "recipe",
            "metadata": "metadata" if header is None else "Media-Metadata",
        }
        metadata = None if raw is None else _json(raw, places["metadata"])
        if token is not None:
            recipe = _bound("recipe", token.recipe, recipe)
            metadata = _bound("metadata", token.metadata, metadata)
        traceparent = parse_traceparent(request.headers.get("traceparent"))
        about = UploadDetails(
            "default" if recipe is None else recipe, {} if metadata is None else metadata, traceparent
        )
        self._check(about, places)
        return about

    def _check(self, about: UploadDetails, places: Mapping[str, str]) -> None:
        """Check as the worker does, who would otherwise refuse the event later."""
        event = {"source": "uploads/any", "recipe": about.recipe, "metadata": about.metadata}
        try:
            parse_event(orjson.dumps(event), StreamId(), self._recipes)
        except TypeError as error:
            raise Problem("invalid_event", f"{places['metadata']}: is nested too deeply") from error
        except InvalidEvent as error:
            field, colon, reason = str(error).partition(": ")
            said = f"{places[field]}: {in_json(reason)}" if colon and field in places else str(error)
            raise Problem(error.code, said) from error


def differs(how: str = "for another picture") -> Problem:
    """The same key was used before, and for something else."""
    return Problem("digest_mismatch", f"This Idempotency-Key was used {how}.")


def _header(request: Request, name: str) -> str | None:
    """The header of that name. Raises: Problem (bad_request) where there are two: one would not count."""
    given = request.headers.getlist(name)
    if len(given) > 1:
        raise Problem("bad_request", f"There is one {name} at most.")
    return given[0] if given else None


def _sha256(encoded: str) -> bytes:
    try:
        digest = b64decode(encoded, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != _SHA256_BYTES:
        raise Problem("bad_request", f"The sha-256 of Repr-Digest has {_SHA256_BYTES} bytes in Base64.")
    return digest


def _once(name: str, header: Any, field: Any) -> Any:  # noqa: ANN401 (either of two kinds)
    if header is not None and field is not None and header != field:
        raise Problem("bad_request", f"There is a {name} in a header, and another in the form.")
    return field if header is None else header


def _bound(name: str, of_token: Any, given: Any) -> Any:  # noqa: ANN401 (a text, or metadata)
    if of_token is None:
        return given
    if given is not None and given != of_token:
        raise Problem("forbidden", f"The token is for another {name}.")
    return of_token


def _text(field: bytes | None) -> str | None:
    try:
        return None if field is None else field.decode()
    except UnicodeDecodeError as error:
        raise Problem("bad_request", "recipe: is not UTF-8") from error


def _json(raw: bytes, where: str) -> Any:  # noqa: ANN401 (whatever it is)
    if len(raw) > MOST_FIELD:
        raise Problem("bad_request", f"{where}: has at most {MOST_FIELD} bytes as it is sent")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Problem("bad_request", f"{where}: is not JSON: {why_no_json(raw, error)}") from error
