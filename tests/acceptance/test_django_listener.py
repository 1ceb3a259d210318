"""The listener of a Django app while its database, or its Redis, is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.postgres_server import PostgresServer, temporary_postgres
from tests.support.clients import ROOT, skip_without_services
from tests.support.disks import quickest_disk
from tests.support.django_shop import DjangoShop, new_shop, on_postgres
from tests.support.workplace import Workplace, eventually

PICTURE = ROOT / "scripts/pictures/cairn.jpg"
ADD = f"""
from shop.trying import *
Photo.objects.create(title="cat", image=ContentFile(open({str(PICTURE)!r}, "rb").read(), "cat.jpg"))
"""
STATES = "from shop.trying import *; answer = [one.image.state for one in Photo.objects.all()]"


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """One that the test stops."""
    skip_without_services()
    with temporary_postgres(beneath=quickest_disk()) as server:
        yield server


@pytest.fixture
def shop(
    django_version: str, postgres: PostgresServer, live: Workplace, tmp_path: Path
) -> Iterator[DjangoShop]:
    database = on_postgres(postgres, "shop")
    shop = new_shop(tmp_path, django_version, {"default": database}, media=live.root, redis=live.redis_url)
    yield shop
    shop.close()


@pytest.mark.campaign
def test_a_listener_goes_on_after_its_database_was_away(
    shop: DjangoShop, postgres: PostgresServer, live: Workplace
) -> None:
    shop.listen()
    shop.run(ADD)
    eventually(lambda: shop.run(STATES) == ["ready"])
    source = shop.run(
        """
        from shop.trying import *
        Upload.objects.update(state="pending", seq=0)
        answer = Photo.objects.get().image.name
        connection.close()
        """
    )

    postgres.stop()
    live.send({"source": source})
    live.await_end_of(source, times=2)
    eventually(lambda: "The handler failed" in shop.log)
    postgres.start()

    eventually(lambda: shop.run(STATES) == ["ready"])
    shop.stop_listener()
