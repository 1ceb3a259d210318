"""Tokens, as apps sign them in any language, and as nobody else can."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from worker.http.tokens import TokenMistake, Tokens

SECRET = "a-secret-of-the-tests-with-32-bytes"
TOKENS = Tokens(SECRET)
SOON = 4_000_000_000  # the ids of tests must not change with the time


def part(document: object) -> str:
    text = document if isinstance(document, str) else json.dumps(document)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def signed(header: object, claims: object, secret: str = SECRET) -> str:
    """A JWT as an app makes it that has no library, or one that forges it."""
    text = f"{part(header)}.{part(claims)}"
    digest = hmac.digest(secret.encode(), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def of(**claims: object) -> str:
    return signed({"alg": "HS256", "typ": "JWT"}, {"aud": "media", "exp": SOON, **claims})


def reason(token: str, tokens: Tokens = TOKENS) -> str:
    with pytest.raises(TokenMistake) as refused:
        tokens.read(token)
    return str(refused.value)


def counted_as(token: str) -> str | None:
    try:
        return TOKENS.read(token).digest
    except TokenMistake:
        return None


def test_an_app_signs_tokens_without_any_library() -> None:
    found = TOKENS.read(of(max_bytes=9, recipe="shop", metadata={"a": 1}, n=2, owner="shop"))

    assert (found.max_bytes, found.recipe, found.metadata, found.n) == (9, "shop", {"a": 1}, 2)
    assert (found.owner, found.prefix, found.expires_at) == ("shop", None, SOON)


def test_what_the_server_signs_it_reads() -> None:
    assert TOKENS.read(TOKENS.sign(SOON, {"n": 3})).n == 3


def test_an_audience_may_stand_among_others() -> None:
    assert TOKENS.read(of(aud=["shop", "media"])).expires_at == SOON


@pytest.mark.parametrize("aud", ["shop", ["shop"], [], 7, None, {"media": 1}])
def test_a_token_for_somebody_else_does_not_count(aud: object) -> None:
    assert "token" in reason(of(aud=aud))


@pytest.mark.parametrize(
    "exp",
    [str(SOON), True, None, [SOON], -1, 0, 1e300, 10**30, float("inf"), float("nan"), "never", 1_000_000_000],
)
def test_a_token_says_in_seconds_until_when_it_counts(exp: object) -> None:
    assert "token" in reason(of(exp=exp))


def test_a_token_without_an_end_or_an_audience_does_not_count() -> None:
    assert reason(signed({"alg": "HS256"}, {"aud": "media"})) == "The token lacks the claim exp."
    assert reason(signed({"alg": "HS256"}, {"exp": SOON})) == "The token lacks the claim aud."


def test_a_part_of_a_second_is_fine() -> None:
    assert TOKENS.read(of(exp=SOON + 0.5)).expires_at == SOON


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS384"},
        {"alg": "RS256"},
        {"alg": ["HS256"]},
        {"alg": "HS256", "crit": ["x"], "x": 1},
        {},
        [],
        "no json",
        "[" * 6000,
        '{"alg":' * 1000,
    ],
)
def test_only_our_way_to_sign_counts(header: object) -> None:
    claims = {"aud": "media", "exp": SOON}
    unsigned = f"{part(header)}.{part(claims)}."

    assert reason(signed(header, claims)) in ("The token is not valid.", "That is neither a key nor a token.")
    assert reason(unsigned) == "That is neither a key nor a token."


def test_a_token_of_another_secret_does_not_count() -> None:
    forged = signed({"alg": "HS256"}, {"aud": "media", "exp": SOON}, "another-secret-with-more-than-32-b")

    assert reason(forged) == "The token is not valid."
    assert reason(jwt.encode({"aud": "media", "exp": SOON}, key="", algorithm="none")) == (
        "That is neither a key nor a token."
    )


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("max_bytes", "9"),
        ("max_bytes", 0),
        ("max_bytes", 1.5),
        ("n", True),
        ("n", -1),
        ("recipe", ["default"]),
        ("metadata", [1]),
        ("metadata", {"a": "b" * 5000}),
        ("key", 7),
    ],
)
def test_a_wrong_claim_is_named_and_never_left_out(claim: str, value: object) -> None:
    assert reason(of(**{claim: value})) == f"The token has a wrong claim: {claim}."


@pytest.mark.parametrize(
    "binding",
    [
        {"prefix": "uploads/ab"},  # which uploads/abc/ begins with
        {"prefix": "uploads/ab/../"},
        {"prefix": "variants/"},
        {"prefix": ""},
        {"prefix": "uploads/.media-x/"},
        {"prefix": "uploads/a\u0308/"},
        {"owner": "../x"},
        {"owner": ""},
        {"owner": "sh\u200bop"},
        {"owner": "shop", "prefix": "uploads/other/"},
    ],
)
def test_a_token_is_bound_as_a_key_is(binding: dict[str, Any]) -> None:
    wrong = "prefix" if "prefix" in binding else "owner"
    assert reason(of(**binding)) == f"The token has a wrong claim: {wrong}."


def test_what_we_do_not_know_of_a_token_is_left_out() -> None:
    assert TOKENS.read(of(iss="shop", deep={"a": {"b": [1]}})).n is None


def test_however_a_signature_is_spelled_the_token_is_counted_as_one() -> None:
    token = of(n=1)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [token[:-1] + alphabet[alphabet.index(token[-1]) ^ bits] for bits in (1, 2, 3)]

    assert {counted_as(each) for each in others} <= {TOKENS.read(token).digest, None}
    for junk in (f"{token}=", f"{token}!", token.replace(".", ".\n", 1), f"{token}.x", f"{token}\u00e9"):
        assert reason(junk) == "That is neither a key nor a token."


@pytest.mark.parametrize(
    "junk", ["", "x", "a.b.c", ".", "..", "a" * 10_000, "\u00ff.\u00ff.\u00ff", of(x="y" * 20_000)]
)
def test_what_is_no_token_is_said_without_repeating_it(junk: str) -> None:
    said = reason(junk)

    assert said in ("That is neither a key nor a token.", "The token is not valid.")


def test_without_a_secret_no_token_counts_and_none_is_signed() -> None:
    nobody = Tokens("")

    assert reason(signed({"alg": "HS256"}, {"aud": "media", "exp": SOON}, ""), nobody).endswith("no tokens.")
    with pytest.raises(TokenMistake, match="MEDIA_HTTP_SECRET"):
        nobody.sign(SOON, {})


def test_a_secret_is_in_no_text_of_what_holds_it() -> None:
    assert SECRET not in repr(TOKENS)
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in repr(TOKENS)
