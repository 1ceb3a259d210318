"""Tokens of claims: a number that no other claim has, also where the database has forgotten the last ones.

A server that crashes, and a replica that takes over, may lack claims whose workers go on. Their next claim of
the same upload is counted as those were. So only the lower bits of a token count, and the others are random.
"""

import secrets

from sqlalchemy import bindparam

from storage.catalog.tables import Big, uploads

_COUNTS = 1 << 20  # more than any upload has claims
_RANDOM_BITS = 42
NEXT = uploads.c.claim % _COUNTS + 1 + bindparam("chance", type_=Big)
"""The token after the one in the row, with a `chance`."""


def chance() -> int:
    """The random part of a token."""
    return secrets.randbits(_RANDOM_BITS) * _COUNTS


def count(token: int) -> int:
    """How many claims there were up to that one."""
    return token % _COUNTS
