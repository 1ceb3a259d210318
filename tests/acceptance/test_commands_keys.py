"""`media keys`: made, listed and revoked, on both databases."""

from pathlib import Path

import pytest

from storage.catalog.opening import open_catalog
from tests.support.catalogs import ON_BOTH
from tests.support.commands import Ended, document, media
from tests.support.workplace import Workplace
from worker.http.keys import digest_of

pytestmark = ON_BOTH


@pytest.fixture
def place(workplace: Workplace, catalog_url: str, database_kind: str) -> Workplace:
    if database_kind == "postgres":
        workplace.settings["MEDIA_CATALOG_URL"] = catalog_url
    return workplace


def keys(place: Workplace, *words: str) -> Ended:
    return media(place.env(), "keys", *words)


async def test_a_secret_is_printed_once_and_only_its_digest_is_kept(
    place: Workplace, catalog_url: str
) -> None:
    made = keys(place, "new", "shop")
    secret = made.stdout.removesuffix("\n")

    assert (made.returncode, made.stderr) == (0, "")
    assert secret.startswith("mw_")
    assert len(secret) > 40
    assert secret not in keys(place, "list").stdout + keys(place, "list", "--json").stdout
    async with open_catalog(catalog_url, create=False) as catalog:
        [kept] = await catalog.http_keys.all()
    assert kept.sha256 == digest_of(secret)
    assert secret not in repr(kept)


def test_a_key_says_what_it_may_and_whose_uploads_it_opens(place: Workplace) -> None:
    words = ("--scope", "read, operate", "--owner", "shop", "--prefix", "uploads/shop/", "--json")
    made = document(keys(place, "new", "back-office", *words))
    listed = document(keys(place, "list", "--json"))["keys"]
    shown = keys(place, "list").stdout

    said = {"name": "back-office", "scopes": ["operate", "read"], "owner": "shop", "prefix": "uploads/shop/"}
    assert made.pop("secret").startswith("mw_")
    assert listed == [made]
    assert said.items() <= made.items()
    assert (made["revoked"], made["made"].endswith("+00:00")) == (None, True)
    assert all(word in shown for word in ("back-office", "operate read", "uploads/shop/"))


def test_a_revoked_key_stays_in_the_list_and_gives_its_name_to_no_other(place: Workplace) -> None:
    keys(place, "new", "shop")
    revoked = keys(place, "revoke", "shop", "--json")
    again, twice = keys(place, "new", "shop"), keys(place, "revoke", "shop")

    assert document(revoked) == {"revoked": "shop"}
    assert document(keys(place, "list", "--json"))["keys"][0]["revoked"] is not None
    assert (again.returncode, again.stdout) == (1, "")
    assert "choose another name" in again.stderr
    assert (twice.returncode, "no key shop" in twice.stderr) == (1, True)


def test_without_keys_the_list_says_how_to_make_one(place: Workplace) -> None:
    assert "media keys new" in keys(place, "list").stdout
    assert document(keys(place, "list", "--json")) == {"keys": []}


@pytest.mark.parametrize(
    "words",
    [
        ("Shop",),
        ("local",),
        ("a" * 33,),
        ("shop", "--scope", "admin"),
        ("shop", "--scope", ","),
        ("shop", "--owner", "../x"),
        ("shop", "--prefix", "uploads/shop"),
        ("shop", "--prefix", "uploads/../etc/"),
        ("shop", "--owner", "shop", "--prefix", "uploads/other/"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_the_reason(place: Workplace, words: tuple[str, ...]) -> None:
    ended = keys(place, "new", *words, "--json")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.strip().endswith(".")
    assert document(keys(place, "list", "--json")) == {"keys": []}


@pytest.mark.sqlite
def test_without_a_catalog_no_key_is_made(place: Workplace, tmp_path: Path) -> None:
    place.catalog.unlink()
    ended = keys(place, "new", "shop")

    assert (ended.returncode, "no catalog" in ended.stderr) == (1, True)
    assert not (tmp_path / "catalog.db").exists()
