"""MediaField in a project with several databases: each row of Upload is where the app's row is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.django_shop import SQLITE, DjangoShop, new_shop

OF_ITS_OWN = """
class Router:
    def db_for_read(self, model, **hints):
        return "second" if model._meta.app_label == "shop" else None

    db_for_write = db_for_read
"""
WITHOUT_UPLOADS = f"""{OF_ITS_OWN}
    def allow_migrate(self, db, app_label, **hints):
        return app_label == "shop" if db == "second" else None
"""
PRIMARY_AND_REPLICA = """
class Router:
    def db_for_read(self, model, **hints):
        return "second"

    def db_for_write(self, model, **hints):
        return "default"
"""


@pytest.fixture(scope="module")
def shop_with(
    django_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], DjangoShop]]:
    shops: dict[str, DjangoShop] = {}

    def with_router(router: str) -> DjangoShop:
        if router not in shops:
            home: Path = tmp_path_factory.mktemp("shop")
            databases = {alias: {**SQLITE, "NAME": str(home / alias)} for alias in ("default", "second")}
            shops[router] = new_shop(home, django_version, databases, router=router)
        return shops[router]

    yield with_router
    for shop in shops.values():
        shop.close()


def test_an_app_may_have_a_database_of_its_own(shop_with: Callable[[str], DjangoShop]) -> None:
    answer = shop_with(OF_ITS_OWN).trying(
        """
        from media_worker_django.receiving import pending_ids
        cat = photo()
        waiting = len(pending_ids())
        media.deliver()
        [joined] = Photo.objects.select_related("image_upload")
        Photo.objects.bulk_create([Photo(title="dog", image=picture("dog"))])
        Photo.objects.filter(title="dog").update(image="uploads/elsewhere.jpg")
        announced = announcing.announce_missing()
        Upload.objects.using("second").update(due="2020-01-01T00:00:00Z")
        answer = [waiting, shown(joined.image), announced, announcing.send_due()]
        """
    )

    assert answer == [1, ["ready", True], 1, 2]


def test_what_is_decided_is_decided_by_the_primary_and_not_by_a_replica(
    shop_with: Callable[[str], DjangoShop],
) -> None:
    answer = shop_with(PRIMARY_AND_REPLICA).trying(
        """
        from media_worker_django.receiving import DatabaseCursor, pending_ids
        rows = Photo.objects.using("default")
        copies = [Photo.objects.create(title="cat", image=picture("old"))]
        copies += [Photo.objects.create(title="dog", image=copies[0].image.name)]
        waiting = len(pending_ids())
        media.deliver()
        stale = rows.get(title="cat")
        stale._state.db = "second"
        with options(DELETE_AFTER=0, DELETE_ORIGINALS=True):
            stale.delete()
            media.deliver()
        [upload] = Upload.objects.using("default")
        kept = [upload.state, copies[1].image.storage.exists(upload.source)]
        Upload.objects.using("default").update(state="failed", due=None)
        retried = announcing.retry(Upload.objects.all())
        DatabaseCursor("events").save("1-0")
        answer = [waiting, kept, retried, DatabaseCursor("events").load()]
        """
    )

    assert answer == [1, ["ready", True], 1, "1-0"]


def test_a_check_finds_a_database_that_has_no_uploads(shop_with: Callable[[str], DjangoShop]) -> None:
    code = """
        from django.core.checks import run_checks
        answer = [one.id for one in run_checks() if "media" in one.id]
        """

    assert set(shop_with(WITHOUT_UPLOADS).run(code)) == {"media_worker_django.W009"}
    assert shop_with(OF_ITS_OWN).run(code) == []
