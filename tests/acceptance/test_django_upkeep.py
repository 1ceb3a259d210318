"""What looks after MediaFields: checks, the admin, and what is sent for files that nobody announced."""

from collections.abc import Iterator

import pytest

from tests.support.django_shop import SQLITE, DjangoShop, new_shop
from worker.retry import CODES, blame_of

OTHER_MODEL = """
from django.apps import apps

def ids_of(**options):
    class Elsewhere(models.Model):
        image = MediaField(**options)

        class Meta:
            app_label = "shop"

    try:
        return [one.id for one in Elsewhere.check()]
    finally:
        del apps.all_models["shop"]["elsewhere"]
        apps.clear_cache()
"""
PEOPLE = """
from django.contrib.auth.models import Permission, User
from django.test import Client

UPLOADS = "/admin/media_worker_django/upload/"


def person(*permissions):
    user, _created = User.objects.get_or_create(username="_".join(permissions), is_staff=True)
    names = [f"{permission}_upload" for permission in permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client(SERVER_NAME="localhost")
    client.force_login(user)
    return client
"""


@pytest.fixture(scope="module")
def shop(django_version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DjangoShop]:
    home = tmp_path_factory.mktemp("shop")
    shop = new_shop(home, django_version, {"default": {**SQLITE, "NAME": str(home / "shop.sqlite3")}})
    (home / "shop/other_model.py").write_text(f"from shop.trying import *\n{OTHER_MODEL}")
    (home / "shop/people.py").write_text(PEOPLE)
    yield shop
    shop.close()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("upload_to='uploads'", []),
        ("upload_to='uploads/%Y'", []),
        ("upload_to='uploadsof'", ["media_worker_django.E004"]),
        ("storage=FileSystemStorage('/srv/uploads')", ["media_worker_django.E006"]),
        ("storage=FileSystemStorage('/' + 300 * 'x' + '/uploads')", ["media_worker_django.E006"]),
        ("storage=Bucket(file_overwrite=True)", ["media_worker_django.W010"]),
        ("storage=Bucket(file_overwrite=False)", []),
    ],
)
def test_a_check_finds_a_field_that_would_not_work(shop: DjangoShop, options: str, found: list[str]) -> None:
    answer = shop.trying(
        f"""
        from django.core.files.storage import FileSystemStorage, Storage
        from shop.other_model import ids_of

        class Bucket(Storage):
            def __init__(self, file_overwrite):
                self.file_overwrite = file_overwrite

        answer = ids_of({options})
        """
    )

    assert answer == found


def test_a_storage_root_may_be_called_uploads_where_a_worker_has_been_at_work(shop: DjangoShop) -> None:
    root = shop.home / "uploads"
    root.mkdir()
    (root / ".media-root.json").write_text("{}")

    answer = shop.trying(
        f"""
        from django.core.files.storage import FileSystemStorage
        from shop.other_model import ids_of
        answer = ids_of(storage=FileSystemStorage({str(root)!r}))
        """
    )

    assert answer == []


@pytest.mark.parametrize("waiting", ["state='pending', due=None", "state='deleting', due=late"])
def test_a_check_finds_that_nobody_listens(shop: DjangoShop, waiting: str) -> None:
    answer = shop.trying(
        f"""
        from django.core.checks import run_checks
        from media_worker_django.receiving import DatabaseCursor
        late = timezone.now() - timedelta(hours=1)
        photo()
        Upload.objects.update(changed=late, {waiting})
        answer = [[one.id for one in run_checks(databases=["default"])]]
        DatabaseCursor("media:events").touch()
        answer += [[one.id for one in run_checks(databases=["default"])]]
        """
    )

    assert answer == [["media_worker_django.W008"], []]


def test_who_may_only_look_at_uploads_has_none_tried_again(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from shop.people import UPLOADS, person
        photo()
        Upload.objects.update(state="failed")
        form = {"action": "retry", "_selected_action": [Upload.objects.get().pk]}
        for permission in ("view", "change"):
            client = person(permission)
            assert client.get(UPLOADS).status_code == 200
            client.post(UPLOADS, form)
            answer = [*(answer or []), states()]
        """
    )

    assert answer == [{"old": "failed"}, {"old": "pending"}]


def test_nobody_overwrites_in_the_admin_what_a_message_has_said(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from shop.people import UPLOADS, person
        photo()
        client = person("view", "change", "delete", "add")
        page = f"{UPLOADS}{Upload.objects.get().pk}/change/"
        answer = [client.get(page).status_code, client.post(page, {}).status_code]
        """
    )

    assert answer == [200, 403]


def test_the_admin_has_the_uploads_of_a_field_that_is_no_more(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from shop.people import UPLOADS, person
        photo()
        media.deliver()
        client = person("view")
        for field in ("shop.Photo.gone", "shop.Gone.image", "gone.Photo.image", ""):
            Upload.objects.update(field=field)
            pages = [UPLOADS, f"{UPLOADS}{Upload.objects.get().pk}/change/"]
            answer = [*(answer or []), *(client.get(page).status_code for page in pages)]
        """
    )

    assert answer == [200] * 8


def test_the_list_of_uploads_takes_as_many_queries_for_many_as_for_one(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from django.test.utils import CaptureQueriesContext
        from shop.people import UPLOADS, person
        client = person("view")
        for title in "abcdefgh":
            photo(title, title)
            media.deliver()
            with CaptureQueriesContext(connection) as queries:
                client.get(UPLOADS)
            answer = [*(answer or []), len(queries)]
        """
    )

    assert len(set(answer)) == 1


def test_a_row_of_which_the_app_can_say_nothing_holds_up_no_other(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        Photo.objects.bulk_create([Photo(title="cat"), Photo(title="dog")])
        for title in ("cat", "dog"):
            Photo.objects.filter(title=title).update(image=f"uploads/{title}.jpg")
        field = Photo._meta.get_field("image")
        field.metadata = lambda one: {"title": {"dog": "a dog"}[one.title]}
        try:
            with SimpleTestCase().assertLogs("media_worker_django", "ERROR"):
                answer = [announcing.announce_missing(), states()]
        finally:
            field.metadata = None
        """
    )

    assert answer == [1, {"dog": "pending"}]


def test_a_row_that_changes_while_others_are_announced_is_announced_as_it_is_by_then(
    shop: DjangoShop,
) -> None:
    answer = shop.trying(
        """
        Photo.objects.bulk_create([Photo(title="cat"), Photo(title="dog"), Photo(title="cow")])
        for title in ("cat", "dog", "cow"):
            Photo.objects.filter(title=title).update(image=f"uploads/{title}.jpg")

        def change(one):
            Photo.objects.filter(title="dog").update(image="uploads/wolf.jpg")
            Photo.objects.filter(title="cow").delete()

        field = Photo._meta.get_field("image")
        field.metadata = change
        try:
            answer = [announcing.announce_missing(), states()["cat"], states()["wolf"], "dog" in states()]
        finally:
            field.metadata = None
        """
    )

    assert answer == [2, "pending", "pending", False]


def test_a_setting_that_is_wrong_is_no_fault_of_an_upload(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        fake = conf._instead.pop()
        try:
            with options(REDIS_URL="127.0.0.1"), SimpleTestCase().assertLogs("django.db", "ERROR"):
                photo()
        finally:
            conf._instead.append(fake)
        answer = states()
        """
    )

    assert answer == {"old": "pending"}


def test_a_request_with_many_pictures_asks_a_redis_that_gives_no_answer_once(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        import socket
        silent = socket.create_server(("127.0.0.1", 0))
        silent.settimeout(0)
        fake, patience, conf._PATIENCE_S = conf._instead.pop(), conf._PATIENCE_S, 0.1
        try:
            with options(REDIS_URL=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"):
                Photo.objects.bulk_create([Photo(title=one, image=picture(one)) for one in "abc"])
        finally:
            conf._instead.append(fake)
            conf._PATIENCE_S = patience
        asked = []
        try:
            while len(asked) < 9:
                asked.append(silent.accept())
        except BlockingIOError:
            pass
        answer = [len(asked), states(), Upload.objects.filter(due__lte=timezone.now()).count()]
        """
    )

    assert answer == [1, dict.fromkeys("abc", "pending"), 3]


@pytest.mark.parametrize(
    ("code", "is_of_the_picture"),
    [
        ("corrupt_image", True),
        ("unsupported_format", True),
        ("too_many_pixels", True),
        ("source_missing", False),
        ("internal_error", False),
        ("storage_full", False),
        ("a_code_of_a_later_worker", False),
    ],
)
def test_visitors_are_told_what_is_wrong_with_their_picture_and_operators_all_else(
    shop: DjangoShop, code: str, is_of_the_picture: bool
) -> None:
    told, shown, kept, logged = shop.trying(
        f"""
        import logging
        from django.template import Context, Template
        media.fail("uploads/cat.jpg", {code!r}, "These words say why.")
        Photo.objects.bulk_create([Photo(title="cat")])
        Photo.objects.update(image="uploads/cat.jpg")
        announcing.announce_missing()
        with SimpleTestCase().assertLogs("media_worker_django") as logs:
            media.deliver()
            logging.getLogger("media_worker_django").info("that is all")
        found = Photo.objects.get()
        page = Template("{{% load media %}}{{% media image %}}").render(Context({{"image": found.image}}))
        answer = [found.image.error, page, found.image.upload.error_message, logs.output[:-1]]
        """
    )

    words = "These words say why." if is_of_the_picture else "The picture could not be processed."
    assert (told, words in shown) == (words, True)
    assert kept == "These words say why."
    assert [("These words say why." in line, code in line) for line in logged] == (
        [] if is_of_the_picture else [(True, True)]
    )


def test_the_listener_says_that_the_worker_has_another_folder(shop: DjangoShop) -> None:
    logged = shop.trying(
        """
        from django.core.files.storage import default_storage
        name = default_storage.save("uploads/lost.jpg", picture("lost"))
        media.fail(name, "source_missing")
        Photo.objects.bulk_create([Photo(title="lost")])
        Photo.objects.update(image=name)
        announcing.announce_missing()
        with SimpleTestCase().assertLogs("media_worker_django", "ERROR") as logs:
            media.deliver()
        answer = logs.output
        """
    )

    assert len(logged) == 2
    assert "(source_missing)" in logged[0]
    assert "MEDIA_STORAGE_URL" in logged[1]
    assert str(shop.home / "media") in logged[1]


def test_visitors_are_told_of_each_code_that_the_worker_blames_on_the_picture(shop: DjangoShop) -> None:
    codes = shop.run("from media_worker_django.models import OF_THE_PICTURE as answer")

    of_the_app = {"invalid_event", "source_missing"}
    assert set(codes) == {code for code in CODES if blame_of(code) == "picture"} - of_the_app


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("pending", {"type": "upload.started"}),
        ("pending", {"type": "upload.ready"}),
        ("pending", {"type": "upload.failed", "error": {"code": "storage_full", "message": "It is full."}}),
        ("pending", {"type": "upload.failed", "entry": "1-0"}),
        ("pending", {"type": "upload.status", "state": "unknown"}),
        ("ready", {"type": "upload.deleted"}),
        ("deleting", {"type": "upload.deleted"}),
        ("replaced", {"type": "upload.deleted", "replaced_by": "0" * 32}),
    ],
)
def test_a_message_begins_with_a_write_for_sqlite_waits_for_no_lock_after_a_read(
    shop: DjangoShop, state: str, told: dict[str, object]
) -> None:
    verbs = shop.trying(
        f"""
        from media_worker_client.messages import parse_message
        from media_worker_django.receiving import receive
        photo()
        media.listen(lambda message: None)
        [message] = [dict(message.raw) for message in media.deliver()]
        Upload.objects.update(state={state!r}, seq=0)
        parsed = parse_message({{**message, "seq": 99, **{told!r}}})
        answer = []

        def keep(execute, sql, *about):
            answer.append(sql.split()[0])
            return execute(sql, *about)

        with connection.execute_wrapper(keep):
            receive(parsed)
        """
    )

    assert next(verb for verb in verbs if verb not in ("BEGIN", "SAVEPOINT")) == "UPDATE"


def test_a_listener_says_when_it_starts_that_no_worker_has_been_in_the_folder(shop: DjangoShop) -> None:
    shop.listen()
    shop.stop_listener()

    assert f"No media-worker has been at work in {shop.home / 'media'}." in shop.log
