"""Accounts: an app with a stream has owners of its own, whatever others are called."""

import pytest

from storage.catalog.intake import EventStore
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, Domain, StreamId, UploadRequested
from tests.support.catalogs import ON_BOTH, letter
from worker.upload_ids import default_id

pytestmark = ON_BOTH
DOMAINS = [Domain(f"media:uploads:{name}", f"uploads/{name}/") for name in ("blog", "shop")]


def announced(number: int, source: str, owner: str | None) -> UploadRequested:
    return UploadRequested(StreamId(number), default_id(source), source, "default", owner=owner)


async def take(catalog: Catalog, *events: UploadRequested, admitted: bool = True) -> None:
    await EventStore(catalog.database, 1000, DOMAINS).take(
        [(event, letter(f"{event.position.ms}-0")) for event in events],
        [],
        admit=lambda owners: [admitted] * len(owners),
    )


async def claimed(catalog: Catalog, source: str) -> Claim:
    """The claim of an upload that was parked, or was ready to be claimed."""
    [(job_id, owners)] = (await catalog.parking.take({await owner_of(catalog): 9}, 1000)).items()
    assert default_id(source) in owners
    claim = await catalog.claims.claim(default_id(source), job_id, "me")
    assert claim is not None
    return claim


async def owner_of(catalog: Catalog) -> str:
    [owner] = await catalog.parking.owners()
    return owner


async def test_what_an_app_sends_in_the_name_of_anothers_owner_waits_apart(catalog: Catalog) -> None:
    shop = [announced(number, f"uploads/shop/{number}.jpg", "mia") for number in range(1, 4)]
    await take(catalog, *shop, announced(9, "uploads/blog/cat.jpg", "mia"), admitted=False)
    [(_, owners)] = (await catalog.parking.take({"blog:mia": 1}, 1000)).items()

    assert owners == {default_id("uploads/blog/cat.jpg"): "blog:mia"}
    assert await catalog.parking.owners() == ["shop:mia"]


@pytest.mark.parametrize(
    ("source", "owner", "account"),
    [
        ("uploads/shop/cat.jpg", "mia", "shop:mia"),
        ("uploads/shop/cat.jpg", None, "shop:shop"),
        ("uploads/other/cat.jpg", "mia", "mia"),
        ("uploads/other/cat.jpg", None, "other"),
        ("uploads/other/cat.jpg", "shop:42", ":shop:42"),
        ("uploads/shop:42/cat.jpg", None, ":shop:42"),
        ("uploads/other/cat.jpg", ":shop:42", "::shop:42"),
        ("uploads/other/cat.jpg", "user:42", "user:42"),
    ],
)
async def test_a_claim_names_the_account_and_the_owner_stays_what_the_app_has_said(
    catalog: Catalog, source: str, owner: str | None, account: str
) -> None:
    await take(catalog, announced(1, source, owner), admitted=False)
    claim = await claimed(catalog, source)

    assert claim.account == account
    assert claim.upload.owner == (owner or source.split("/")[1])


async def test_an_account_follows_the_newest_event(catalog: Catalog) -> None:
    source = "uploads/shop/cat.jpg"
    await take(catalog, announced(1, source, "mia"), admitted=False)
    await take(catalog, announced(2, source, "leo"), admitted=False)

    assert await owner_of(catalog) == "shop:leo"


async def test_what_was_taken_before_apps_had_streams_has_the_account_of_its_owner(catalog: Catalog) -> None:
    event = announced(1, "uploads/shop/cat.jpg", "mia")
    await catalog.intake.take([(event, letter("1-0"))], [], admit=lambda owners: [False] * len(owners))

    assert await owner_of(catalog) == "mia"
