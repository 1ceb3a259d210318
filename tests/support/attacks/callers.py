"""Keys and tokens that nobody was given, and rights that nobody has."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from tests.support.attacks import Attack, call
from tests.support.attacks.pictures import png
from tests.support.face import SECRET

_LATE, _LONG_AGO = 4_000_000_000, 1_000_000_000
_CLAIMS: Mapping[str, Any] = {"aud": "media", "exp": _LATE, "owner": "alice"}


def _encoded(part: bytes) -> str:
    return urlsafe_b64encode(part).decode().rstrip("=")


def signed(
    claims: object, header: Mapping[str, Any] | None = None, secret: str = SECRET, by: str = "sha256"
) -> str:
    """A token, signed whatever it says."""
    head = json.dumps({"alg": "HS256", "typ": "JWT", **(header or {})}).encode()
    told = f"{_encoded(head)}.{_encoded(json.dumps(claims).encode())}"
    return f"{told}.{_encoded(hmac.digest(secret.encode(), told.encode(), by))}"


def _claiming(**claims: object) -> str:
    return signed({**_CLAIMS, **claims})


def _nested(depth: int) -> str:
    head = b'{"alg":"HS256","x":' + b"[" * depth + b"]" * depth + b"}"
    return f"{_encoded(head)}.{_encoded(json.dumps(_CLAIMS).encode())}.c2ln"


GOOD = _claiming()
_HEAD, _TOLD, _SIGNATURE = GOOD.split(".")
_NONE = _encoded(b'{"alg":"none","typ":"JWT"}')

FORGED = {
    "expired": _claiming(exp=_LONG_AGO),
    "expired_before_1970": _claiming(exp=-1),
    "expiring_at_infinity": _claiming(exp=float("inf")),
    "expiring_never": _claiming(exp=None),
    "expiring_in_words": _claiming(exp="tomorrow"),
    "expiring_in_a_huge_number": _claiming(exp=10**400),
    "without_expiry": signed({"aud": "media", "owner": "alice"}),
    "without_audience": signed({"exp": _LATE}),
    "of_another_audience": _claiming(aud="billing"),
    "of_another_secret": signed(_CLAIMS, secret="another-secret-of-32-bytes-or-more"),
    "of_the_empty_secret": signed(_CLAIMS, secret=""),
    "not_yet_valid": _claiming(nbf=_LATE),
    "alg_none": f"{_NONE}.{_TOLD}.",
    "alg_none_with_signature": f"{_NONE}.{_TOLD}.{_SIGNATURE}",
    "alg_none_in_capitals": signed(_CLAIMS, {"alg": "NoNe"}),
    "alg_hs512": signed(_CLAIMS, {"alg": "HS512"}, by="sha512"),
    "alg_hs1": signed(_CLAIMS, {"alg": "HS1"}, by="sha1"),
    "alg_rs256": signed(_CLAIMS, {"alg": "RS256"}),
    "alg_a_list": signed(_CLAIMS, {"alg": ["HS256", "none"]}),
    "kid_of_an_empty_file": signed(_CLAIMS, {"kid": "../../../../dev/null"}, secret=""),
    "kid_of_a_file": signed(_CLAIMS, {"kid": "/proc/sys/kernel/ostype"}, secret="Linux\n"),
    "kid_of_sql": signed(_CLAIMS, {"kid": "x' UNION SELECT 'a' --"}, secret="a"),
    "jwk_of_its_own": signed(_CLAIMS, {"jwk": {"kty": "oct", "k": "YQ"}}, secret="a"),
    "jku_of_elsewhere": signed(_CLAIMS, {"jku": "http://127.0.0.1:1/keys"}, secret="a"),
    "critical_unknown": signed(_CLAIMS, {"crit": ["exp2"], "exp2": 1}),
    "unsigned": f"{_HEAD}.{_TOLD}.",
    "without_signature": f"{_HEAD}.{_TOLD}",
    "of_four_parts": f"{GOOD}.{_SIGNATURE}",
    "signed_for_other_claims": f"{_HEAD}.{_encoded(b'{}')}.{_SIGNATURE}",
    "padded": f"{GOOD}==",
    "nested": _nested(5000),
    "long": f"{_HEAD}.{'A' * 20_000}.{_SIGNATURE}",
    "a_list": signed([_CLAIMS]),
    "of_max_bytes_below_zero": _claiming(max_bytes=-1),
    "of_max_bytes_true": _claiming(max_bytes=True),
    "of_zero_uploads": _claiming(n=0),
    "of_a_list_of_metadata": _claiming(metadata=[1]),
    "of_an_owner_outside": _claiming(owner="../bob"),
    "of_an_owner_with_a_slash": _claiming(owner="bob/http"),
    "of_an_empty_owner": _claiming(owner=""),
    "of_a_prefix_outside": _claiming(prefix="uploads/alice/../bob/"),
    "of_the_prefix_of_all": _claiming(prefix="/"),
    "of_anothers_prefix": _claiming(prefix="uploads/bob/"),
    "of_a_number_as_recipe": _claiming(recipe=5),
}

TOKENS = {
    f"token_{name}": call("401 unauthorized", "POST /v1/uploads", token, body=png(), Content_Type="image/png")
    for name, token in FORGED.items()
}

_REFUSED = {
    "nothing": None,
    "unknown": "mw_" + "A" * 43,
    "revoked": "@REVOKED@",
    "cut": "@CUT@",
    "in_capitals": "@LOUD@",
    "with_nul_encoded": "@ALICE@%00",
    "empty": "",
    "mw": "mw_",
    "digest": "@DIGEST@",
    "latin_1": "mw_\xe4\xf6\xfc",
    "two_words": "@ALICE@ @ALICE@",
    "a_list": "@ALICE@, @ALICE@",
}
KEYS = {f"key_{name}": call("401 unauthorized", "GET /v1/uploads", key) for name, key in _REFUSED.items()}

ELSEWHERE = {
    "key_as_parameter": call("401 unauthorized", "GET /v1/uploads?key=@ALICE@", None),
    "key_as_access_token": call("401 unauthorized", "GET /v1/uploads?access_token=@ALICE@", None),
    "key_in_the_path": call("404 not_found", "GET /@ALICE@/v1/uploads", None),
    "key_in_the_path_encoded": call("404 not_found", "GET /v1/%6dw_@ALICE_REST@", None),
    "key_as_cookie": call("401 unauthorized", "GET /v1/uploads", None, Cookie="Authorization=@ALICE@"),
    "key_as_user_name": call(
        "401 unauthorized", "GET /v1/uploads", None, Authorization="Basic YWxpY2U6c2VjcmV0"
    ),
    "key_with_another_scheme": call(
        "401 unauthorized", "GET /v1/uploads", None, Authorization="Token @ALICE@"
    ),
    "key_without_scheme": call("401 unauthorized", "GET /v1/uploads", None, Authorization="@ALICE@"),
    "two_keys": call(
        "401 unauthorized", "GET /v1/uploads", "@ALICE@", more=[("Authorization", "Bearer @FULL@")]
    ),
    "key_of_a_proxy": call(
        "401 unauthorized", "GET /v1/uploads", None, X_Forwarded_For="127.0.0.1", X_Authorization="@FULL@"
    ),
    "token_as_parameter": call("401 unauthorized", "GET /v1/events?token=@TOKEN@", None),
    "original_url_header": call("401 unauthorized", "GET /v1/uploads", None, X_Original_URL="/healthz"),
    "method_override": call("200", "GET /v1/uploads/@ALICE_ID@", X_HTTP_Method_Override="DELETE"),
}

RIGHTS = {
    "reader_uploads": call(
        "403 forbidden", "POST /v1/uploads", "@READER@", body=png(), Content_Type="image/png"
    ),
    "reader_puts": call(
        "403 forbidden", "PUT /v1/originals/a.png", "@READER@", body=png(), Content_Type="image/png"
    ),
    "reader_deletes": call("403 forbidden", "DELETE /v1/uploads/@BOB_ID@", "@READER@"),
    "reader_retries": call("403 forbidden", "POST /v1/failures/retry", "@READER@", body=b'{"all":true}'),
    "reader_discards": call("403 forbidden", "POST /v1/failures/discard", "@READER@", body=b'{"all":true}'),
    "reader_makes_tokens": call("403 forbidden", "POST /v1/tokens", "@READER@", body=b"{}"),
    "reader_gets_originals": call("403 forbidden", "GET /v1/uploads/@BOB_ID@/original", "@READER@"),
    "token_lists": call("403 forbidden", "GET /v1/uploads", "@TOKEN@"),
    "token_shows": call("403 forbidden", "GET /v1/uploads/@ALICE_ID@", "@TOKEN@"),
    "token_deletes": call("403 forbidden", "DELETE /v1/uploads/@ALICE_ID@", "@TOKEN@"),
    "token_puts": call("403 forbidden", "PUT /v1/originals/alice/a.png", "@TOKEN@", body=png()),
    "token_makes_tokens": call("403 forbidden", "POST /v1/tokens", "@TOKEN@", body=b"{}"),
    "token_gets_originals": call("403 forbidden", "GET /v1/uploads/@ALICE_ID@/original", "@TOKEN@"),
    "token_reads_stats": call("403 forbidden", "GET /v1/stats", "@TOKEN@"),
    "token_follows_all_events": call("403 forbidden", "GET /v1/events", "@TOKEN@", Accept="application/json"),
    "token_for_another_recipe": call(
        "403 forbidden",
        "POST /v1/uploads",
        signed({**_CLAIMS, "recipe": "default"}),
        body=png(),
        Content_Type="image/png",
        Media_Recipe="avatar",
    ),
    "token_for_an_unknown_recipe": call(
        "422 unknown_recipe",
        "POST /v1/uploads",
        signed({**_CLAIMS, "recipe": "../x"}),
        body=png(),
        Content_Type="image/png",
    ),
    "token_for_other_metadata": call(
        "403 forbidden",
        "POST /v1/uploads",
        signed({**_CLAIMS, "metadata": {"a": 1}}),
        body=png(),
        Content_Type="image/png",
        Media_Metadata='{"a": 2}',
    ),
    "token_for_less": call(
        "413 source_too_large",
        "POST /v1/uploads",
        signed({**_CLAIMS, "max_bytes": 10}),
        body=png(),
        Content_Type="image/png",
    ),
    "token_for_less_in_chunks": call(
        "413 source_too_large",
        "POST /v1/uploads",
        signed({**_CLAIMS, "max_bytes": 10}),
        body=png(),
        chunked=True,
        Content_Type="image/png",
    ),
}

LINKS = {
    f"link_{name}": call("403 forbidden", f"GET /files/@ALICE_VARIANT@{query}", None)
    for name, query in {
        "unsigned": "",
        "without_signature": "?expires=4000000000",
        "without_expiry": "?@SIGNATURE@",
        "lasting_longer": "?expires=4000000000&@SIGNATURE@",
        "expired": "?expires=1&@SIGNATURE@",
        "expiring_in_unicode": "?expires=%d9%a1%d9%a2&@SIGNATURE@",
        "of_another_variant": "?@SIGNED_BOB@",
        "with_a_signature_of_unicode": "?expires=4000000000&signature=%f0%9f%94%91",
        "with_a_long_signature": "?expires=4000000000&signature=" + "A" * 4000,
    }.items()
} | {
    "link_twice_signed": call("400 bad_request", "GET /files/@ALICE_VARIANT@?@SIGNED@&x=1", None),
}

ATTACKS: Mapping[str, Attack] = {**TOKENS, **KEYS, **ELSEWHERE, **RIGHTS, **LINKS}
