"""The keys of HTTP clients: kept by name, and never given again once they were revoked."""

from dataclasses import replace

import pytest

from storage.catalog.http_keys import HttpKey
from storage.catalog.opening import Catalog

SHOP = HttpKey("shop", "a" * 64, frozenset({"upload", "read"}), "mia", "uploads/shop/", 5)
OTHER = HttpKey("other", "b" * 64, frozenset(), made_ms=6)


async def test_keys_are_kept_as_they_were_made(catalog: Catalog, another: Catalog) -> None:
    assert [await catalog.http_keys.add(key) for key in (OTHER, SHOP)] == [True, True]

    assert await another.http_keys.all() == [SHOP, OTHER]


async def test_a_key_is_made_now_unless_it_says_when(catalog: Catalog) -> None:
    before = catalog.database.now_ms()
    await catalog.http_keys.add(replace(SHOP, made_ms=0))

    [key] = await catalog.http_keys.all()
    assert before - 10_000 <= key.made_ms <= catalog.database.now_ms() + 10_000


@pytest.mark.parametrize("same", [replace(OTHER, name="shop"), replace(OTHER, sha256="a" * 64)])
async def test_a_name_or_a_secret_that_is_taken_is_given_to_nobody_else(
    catalog: Catalog, same: HttpKey
) -> None:
    await catalog.http_keys.add(SHOP)
    assert not await catalog.http_keys.add(same)

    await catalog.http_keys.revoke("shop")
    assert not await catalog.http_keys.add(same)
    assert [key.name for key in await catalog.http_keys.all()] == ["shop"]


async def test_a_key_is_revoked_once(catalog: Catalog, another: Catalog) -> None:
    await catalog.http_keys.add(SHOP)

    assert [await one.http_keys.revoke("shop") for one in (another, catalog)] == [True, False]
    [key] = await catalog.http_keys.all()
    assert key.revoked_ms is not None


async def test_a_catalog_in_the_place_of_another_has_its_keys_and_revocations(catalog: Catalog) -> None:
    revoked = [replace(SHOP, revoked_ms=9), replace(OTHER, revoked_ms=9)]
    for key in (SHOP, replace(OTHER, revoked_ms=7)):
        await catalog.http_keys.add(key)
    await catalog.http_keys.take_over([*revoked, replace(SHOP, name="new", sha256="c" * 64, made_ms=8)])

    found = await catalog.http_keys.all()
    assert [(key.name, key.revoked_ms) for key in found] == [("shop", 9), ("other", 7), ("new", None)]


async def test_a_key_that_nobody_made_cannot_be_revoked(catalog: Catalog) -> None:
    assert not await catalog.http_keys.revoke("shop")


@pytest.mark.parametrize("name", ["", "Shop", "a b", "x" * 33, "\N{SNOWMAN}", "shop\n"])
async def test_a_wrong_name_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 32 characters"):
        await catalog.http_keys.add(replace(SHOP, name=name))


@pytest.mark.parametrize("sha256", ["", "A" * 64, "a" * 63, "secret"])
async def test_what_is_no_hash_is_never_kept(catalog: Catalog, sha256: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hexadecimal digits"):
        await catalog.http_keys.add(replace(SHOP, sha256=sha256))
