"""Keys of the HTTP face: what makes one, what it allows, and what of it is kept."""

import re
import secrets
import unicodedata
from collections.abc import Iterable
from hashlib import sha256

from storage.catalog.http_keys import NAME, HttpKey
from storage.errors import KeyRefused
from storage.keys import UPLOADS, source_key
from worker.http.scopes import SCOPES

SECRET_PREFIX = "mw_"  # noqa: S105 (how each begins)

NOBODY = "local"  # the name in the log of whoever needs no key

_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


class KeyMistake(Exception):
    """A key of that kind cannot be made; the message says why."""


def new_key(
    name: str, scopes: Iterable[str], owner: str | None, prefix: str | None, now_ms: int
) -> tuple[str, HttpKey]:
    """A secret, which nobody can read again, and its key. Raises: KeyMistake."""
    wanted = frozenset(scopes)
    if not NAME.fullmatch(name):
        raise KeyMistake("A name has 1 to 32 of the characters a-z, 0-9, _ and -.")
    if name == NOBODY:
        raise KeyMistake(f"The name {NOBODY} stands in the log for whoever has no key.")
    if unknown := sorted(wanted - set(SCOPES)):
        raise KeyMistake(f"There is no scope {', '.join(unknown)}; there are {', '.join(SCOPES)}.")
    if not wanted:
        raise KeyMistake(f"A key needs a scope: {', '.join(SCOPES)}.")
    check_binding(owner, prefix)
    secret = f"{SECRET_PREFIX}{secrets.token_urlsafe(32)}"
    return secret, HttpKey(name, digest_of(secret), wanted, owner, prefix, now_ms, None)


def check_binding(owner: str | None, prefix: str | None) -> None:
    """Whether somebody can be bound to the uploads of that owner in that folder. Raises: KeyMistake."""
    if owner is not None and not _OWNER.fullmatch(owner):
        raise KeyMistake(
            "An owner has 1 to 64 of the characters A-Z a-z 0-9 . _ -, and begins with neither . nor -."
        )
    if prefix is not None:
        _check_prefix(prefix, owner)


def digest_of(secret: str) -> str:
    """What is kept of a secret. It is long and random, so a plain digest tells nobody what it was."""
    return sha256(secret.encode()).hexdigest()


def folder_of_uploads(owner: str | None, prefix: str | None) -> str:
    """Where uploads of a caller who is bound to these lie, so that a new catalog knows whose they are."""
    if prefix is not None:
        return prefix.rstrip("/")
    return f"{UPLOADS}/http" if owner is None else f"{UPLOADS}/{owner}/http"


def _check_prefix(prefix: str, owner: str | None) -> None:
    if not prefix.endswith("/"):
        raise KeyMistake(f"A prefix is a folder: {UPLOADS}/NAME/.")
    try:
        source_key(f"{prefix}x")
    except KeyRefused as error:
        raise KeyMistake(f"That prefix cannot be used: {error}.") from error
    if not unicodedata.is_normalized("NFC", prefix):
        # Storages may take both spellings for one folder: it would be two tenants'.
        raise KeyMistake("That prefix is not in the normal form C of Unicode, in which keys compare it.")
    if owner is not None and prefix.split("/")[1] != owner:
        raise KeyMistake(f"The uploads of the owner {owner} lie in {UPLOADS}/{owner}/.")
