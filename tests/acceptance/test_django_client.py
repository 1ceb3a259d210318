"""The Django app: from the lines of its README to a thumbnail, and what becomes of pictures after that."""

import ast
import os
import re
import signal
from base64 import b64decode
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from pipelines.placeholders import thumbhash
from tests.support.clients import ROOT
from tests.support.django_pages import (
    await_state,
    fetch,
    images,
    name_of,
    of_photo,
    page,
    posting,
    ready,
    state,
    states_of,
    upload,
)
from tests.support.django_site import (
    EXAMPLE,
    LINES_OF_THE_APP,
    README,
    DjangoPackages,
    DjangoSite,
    installed_packages,
    new_project,
)
from tests.support.workplace import Workplace, eventually

PICTURE, OTHER = ROOT / "scripts/pictures/cairn.jpg", ROOT / "scripts/pictures/egret.jpg"
AWAY = {"REDIS_URL": "redis://127.0.0.1:1/0"}
[TEST_OF_AN_APP] = re.findall(r"<!-- test -->\n```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
NO_PICTURE = Path(__file__)
JPEG = (200, "ffd8")


@pytest.fixture(scope="module")
def packages(django_version: str, tmp_path_factory: pytest.TempPathFactory) -> DjangoPackages:
    """The environment of an app: one installation for all tests."""
    return installed_packages(tmp_path_factory.mktemp("installed"), django_version)


@pytest.fixture(scope="module")
def gallery(
    packages: DjangoPackages, live: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DjangoSite]:
    """The example with its listener, an empty database, and the worker's folder."""
    home = tmp_path_factory.mktemp("gallery")
    site = DjangoSite(
        EXAMPLE,
        "gallery.settings",
        packages,
        home / "listener.log",
        GALLERY_DATABASE=str(home / "gallery.sqlite3"),
        GALLERY_MEDIA=str(live.root),
        REDIS_URL=live.redis_url,
    )
    site.run("from django.core.management import call_command; call_command('migrate', verbosity=0)")
    site.listen()
    yield site
    site.close()


@pytest.fixture(scope="module")
def started(
    packages: DjangoPackages, live: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DjangoSite]:
    """A new project with the lines of the README."""
    places = {"/srv/media": str(live.root), "redis://127.0.0.1:6379/0": live.redis_url}
    site = new_project(tmp_path_factory.mktemp("started"), packages, places)
    yield site
    site.close()


def test_fifteen_lines_of_the_readme_put_a_thumbnail_on_a_page(started: DjangoSite) -> None:
    lines = [line for _, _, text in LINES_OF_THE_APP for line in text.splitlines() if line.strip()]
    call = "from django.core.management import call_command; call_command({!r}, verbosity=0)"
    started.run(call.format("makemigrations"))
    started.run(call.format("migrate"))
    started.listen()

    started.run(posting("/", PICTURE))
    eventually(lambda: "<img" in page(started, "/"))
    started.stop_listener()

    [thumb] = images(page(started, "/"))
    assert (thumb["width"], thumb["height"]) == ("113", "150")
    assert fetch(started, thumb["src"]) == JPEG
    assert len(lines) == 15
    assert "These are 15 lines" in README.read_text("utf-8")


def test_the_packages_have_the_licence_that_they_name(packages: DjangoPackages) -> None:
    folder = Path(packages.env["PYTHONPATH"].split(os.pathsep)[0])

    licences = {path.parts[-3].split("-")[0] for path in folder.glob("*.dist-info/licenses/LICENSE")}

    assert licences == {"media_worker_client", "media_worker_django"}


def test_an_app_tests_its_pictures_without_redis_and_worker_and_their_folder(
    started: DjangoSite, live: Workplace, tmp_path: Path
) -> None:
    (started.home / "photos/tests.py").write_text(TEST_OF_AN_APP)
    before = sorted((live.root / "uploads").rglob("cat*"))

    failures = started.run(
        f"""
        from django.conf import settings
        from django.test import override_settings
        from django.test.utils import get_runner
        import tempfile
        tempfile.tempdir = {str(tmp_path)!r}
        try:
            with override_settings(MEDIA_WORKER={AWAY!r}):
                answer = get_runner(settings)(verbosity=0).run_tests(["photos"])
        finally:
            tempfile.tempdir = None
        """
    )

    assert failures == 0
    assert list(tmp_path.rglob("cat*.jpg"))
    assert sorted((live.root / "uploads").rglob("cat*")) == before


def test_the_field_needs_one_column_of_the_apps_own(gallery: DjangoSite) -> None:
    made = gallery.run(
        """
        from io import StringIO
        from django.core.management import call_command
        from photos.models import Photo
        out = StringIO()
        call_command("makemigrations", "--check", "--dry-run", stdout=out)
        answer = [out.getvalue().strip(), [field.column for field in Photo._meta.concrete_fields]]
        """
    )

    assert made == ["No changes detected", ["id", "title", "image"]]


def test_a_picture_has_a_srcset_its_size_and_a_placeholder(gallery: DjangoSite) -> None:
    photo = ready(gallery, PICTURE, "Cairn")

    [image] = images(page(gallery, f"/{photo}/"))
    assert [each.split()[1] for each in image["srcset"].split(", ")] == ["113w", "600w", "1440w"]
    assert (image["width"], image["height"], image["alt"]) == ("1440", "1920", "Cairn")
    assert image["style"].startswith("background:#")
    assert "url(data:image/png;base64," in image["style"]


def test_a_list_of_pictures_takes_one_query(gallery: DjangoSite) -> None:
    ready(gallery, PICTURE, "One")
    ready(gallery, OTHER, "Two")

    shown, queries = gallery.run(
        """
        from django.db import connection
        from django.test import Client
        from django.test.utils import CaptureQueriesContext
        with CaptureQueriesContext(connection) as queries:
            content = Client(SERVER_NAME="localhost").get("/").content.decode()
        answer = [content.count("<img"), [one["sql"] for one in queries if "COUNT" not in one["sql"]]]
        """
    )

    assert shown >= 2
    assert len(queries) == 1


def test_each_photo_of_a_large_gallery_is_on_a_page_that_others_lead_to(gallery: DjangoSite) -> None:
    pages = gallery.run(
        """
        from django.db import transaction
        from django.test import Client
        from photos.models import Photo
        with transaction.atomic():
            Photo.objects.bulk_create(Photo(title=f"No. {number}") for number in range(120))
            client, at, answer = Client(SERVER_NAME="localhost"), "", []
            while at is not None and len(answer) < 9:
                answer.append(client.get(f"/{at}").content.decode())
                at = answer[-1].partition("Older ones")[0].rpartition('"?')
                at = f"?{at[2].partition(chr(34))[0]}" if "Older ones" in answer[-1] else None
            transaction.set_rollback(True)
        """
    )

    assert all(f"No. {number}<" in "".join(pages) for number in range(120))


def test_the_row_about_a_file_is_found_in_each_way_that_django_has(gallery: DjangoSite) -> None:
    photo = ready(gallery, PICTURE, "Found")

    states, queries = gallery.run(
        f"""
        import pickle
        from django.db import connection
        from django.test.utils import CaptureQueriesContext
        from photos.models import Photo
        found = Photo.objects.filter(pk={photo}, image_upload__state="ready")
        with CaptureQueriesContext(connection) as queries:
            [joined] = found.select_related("image_upload")
            [fetched] = found.prefetch_related("image_upload")
            states = [joined.image.state, fetched.image.state]
        [deferred] = found.defer("image")
        joined.full_clean()
        joined.refresh_from_db()
        states += [one.image.state for one in (deferred, joined, pickle.loads(pickle.dumps(joined)))]
        answer = [states, len(queries)]
        """
    )

    assert states == ["ready"] * 5
    assert queries == 3


def test_originals_go_with_their_rows_where_the_app_says_so(gallery: DjangoSite) -> None:
    left = gallery.run(
        """
        from django.apps import apps
        from django.conf import settings
        from django.core.files.base import ContentFile
        from django.test import override_settings
        from media_worker_django.models import Upload
        from media_worker_django.testing import fake_media
        from photos.models import Photo
        options = {**settings.MEDIA_WORKER, "DELETE_AFTER": 0, "DELETE_ORIGINALS": True}
        with override_settings(MEDIA_WORKER=options), fake_media() as media:
            photo = Photo.objects.create(title="Gone", image=ContentFile(b"first", "first.jpg"))
            names = [photo.image.name]
            media.deliver()
            photo.image.save("second.jpg", ContentFile(b"second"))
            names.append(photo.image.name)
            media.deliver()
            exist = photo.image.storage.exists
            between = [exist(name) for name in names]
            class PhotoByAnotherName(Photo):
                class Meta:
                    app_label, proxy = "photos", True

            PhotoByAnotherName.objects.get(pk=photo.pk).delete()
            cleared = Photo.objects.create(title="Cleared", image=ContentFile(b"third", "third.jpg"))
            names.append(cleared.image.name)
            cleared.image = ""
            cleared.save()
            media.deliver()
            after = [Upload.objects.filter(source__in=names).count(), *map(exist, names)]
        del apps.all_models["photos"]["photobyanothername"]
        apps.clear_cache()
        answer = [between, after]
        """
    )

    assert left == [[False, True], [0, False, False, False]]


def test_a_refused_picture_has_a_reason_and_another_try_in_the_admin(
    gallery: DjangoSite, live: Workplace
) -> None:
    photo = upload(gallery, NO_PICTURE, "No picture")
    await_state(gallery, photo, "failed")
    source, error = gallery.run(of_photo(photo, "answer = [photo.image.name, photo.image.error]"))
    assert error
    live.put(source, PICTURE.read_bytes())

    listed, one, retried = gallery.run(
        f"""
        from django.contrib.auth.models import User
        from django.test import Client
        from media_worker_django.models import Upload
        client = Client(SERVER_NAME="localhost")
        client.force_login(User.objects.create_superuser("ada"))
        place = "/admin/media_worker_django/upload/"
        upload = Upload.objects.get(source={source!r})
        listed = client.get(place).content.decode()
        one = client.get(f"{{place}}{{upload.pk}}/change/").content.decode()
        form = {{"action": "retry", "_selected_action": [upload.pk]}}
        answer = [listed, one, client.post(place, form, follow=True).content.decode()]
        """
    )

    assert "unsupported_format" in listed
    assert f"/admin/photos/photo/{photo}/change/" in one
    assert "1 upload is tried again" in retried
    await_state(gallery, photo, "ready")


def test_a_form_refuses_what_is_larger_than_the_worker_takes(gallery: DjangoSite, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(10 * 2**20 + 1))

    shown = gallery.run(
        f"""
        from django.test import Client
        with open({str(tmp_path / "large.jpg")!r}, "rb") as picture:
            sent = Client(SERVER_NAME="localhost").post("/new/", {{"title": "Large", "image": picture}})
        answer = sent.content.decode()
        """
    )

    assert "10 MiB are accepted" in shown


def test_pages_show_the_old_picture_until_its_replacement_is_ready(
    gallery: DjangoSite, live: Workplace
) -> None:
    photo = ready(gallery, PICTURE, "Replaced")
    source = name_of(gallery, photo)
    [old] = images(page(gallery, f"/{photo}/"))
    [worker] = live.workers
    live.freeze(worker)
    try:
        upload(gallery, OTHER, "Replaced", f"/{photo}/edit/")
        [between] = images(page(gallery, f"/{photo}/"))
        assert (state(gallery, photo), between["srcset"]) == ("pending", old["srcset"])
    finally:
        worker.signal(signal.SIGCONT)

    await_state(gallery, photo, "ready")
    [new] = images(page(gallery, f"/{photo}/"))
    assert new["src"] != old["src"]
    assert fetch(gallery, old["src"]) == JPEG
    eventually(lambda: states_of(gallery, source) == [])


def test_a_refused_replacement_leaves_the_old_picture_where_it_is(gallery: DjangoSite) -> None:
    photo = ready(gallery, PICTURE, "Kept")
    [old] = images(page(gallery, f"/{photo}/"))

    upload(gallery, NO_PICTURE, "Kept", f"/{photo}/edit/")
    await_state(gallery, photo, "failed")
    [shown] = images(page(gallery, f"/{photo}/"))
    assert shown["src"] == old["src"]
    assert fetch(gallery, shown["src"]) == JPEG

    upload(gallery, OTHER, "Kept", f"/{photo}/edit/")
    await_state(gallery, photo, "ready")
    assert images(page(gallery, f"/{photo}/"))[0]["src"] != old["src"]


def test_a_picture_stays_that_a_request_puts_back_which_knew_of_no_replacement(
    gallery: DjangoSite, live: Workplace
) -> None:
    photo = ready(gallery, PICTURE, "Put back")
    [old] = images(page(gallery, f"/{photo}/"))
    [worker] = live.workers
    live.freeze(worker)
    try:
        gallery.run(f"from photos.models import Photo; Photo.stale = Photo.objects.get(pk={photo})")
        upload(gallery, OTHER, "Put back", f"/{photo}/edit/")
        replacement = name_of(gallery, photo)
        gallery.run("from photos.models import Photo; Photo.stale.save()")
        assert state(gallery, photo) == "pending"
    finally:
        worker.signal(signal.SIGCONT)

    await_state(gallery, photo, "ready")
    live.await_end_of(replacement)
    eventually(lambda: state(gallery, photo) == "ready" and fetch(gallery, old["src"]) == JPEG)
    assert images(page(gallery, f"/{photo}/")) == [old]
    assert states_of(gallery, replacement) == ["deleting"]


def test_a_deleted_row_takes_its_variants_along_but_not_those_of_its_copy(
    gallery: DjangoSite, live: Workplace
) -> None:
    photo = ready(gallery, PICTURE, "Twice")
    source = name_of(gallery, photo)
    [image] = images(page(gallery, f"/{photo}/"))
    thumb = live.root / image["src"].removeprefix("/media/")
    copy = gallery.run(of_photo(photo, "photo.pk = None; photo.save(); answer = photo.pk"))
    deleting = """
        from django.test import Client, override_settings
        from photos.models import Photo
        from django.conf import settings
        with override_settings(MEDIA_WORKER={{**settings.MEDIA_WORKER, "DELETE_AFTER": 0}}):
            Client(SERVER_NAME="localhost").post("/{}/delete/")
        """

    gallery.run(deleting.format(photo))
    assert (state(gallery, copy), states_of(gallery, source)) == ("ready", ["ready"])
    gallery.run(deleting.format(copy))
    eventually(lambda: states_of(gallery, source) == [])

    assert not thumb.exists()


def test_nothing_is_lost_of_what_happens_while_nobody_listens(gallery: DjangoSite, live: Workplace) -> None:
    before = ready(gallery, PICTURE, "Before")
    gallery.kill_listener()
    answered = upload(gallery, OTHER, "Answered meanwhile")
    live.await_end_of(name_of(gallery, answered))
    live.put("uploads/never.jpg", PICTURE.read_bytes())
    gallery.run(
        f"""
        from django.test import override_settings
        from photos.models import Photo
        with override_settings(MEDIA_WORKER={AWAY!r}):
            {posting("/new/", PICTURE, title="Redis was away")}
        Photo.objects.bulk_create([Photo(title="Nobody announced it")])
        Photo.objects.filter(title="Nobody announced it").update(image="uploads/never.jpg")
        """
    )
    find = "from photos.models import Photo; answer = [one.pk for one in Photo.objects.all()[:3]]"
    photos = gallery.run(find)
    assert [state(gallery, photo) for photo in photos] == ["pending"] * 3

    gallery.listen()
    for photo in photos:
        await_state(gallery, photo, "ready")
    assert state(gallery, before) == "ready"


@pytest.mark.campaign
def test_a_listener_asks_for_what_was_trimmed_before_it_was_read(
    gallery: DjangoSite, live: Workplace
) -> None:
    ready(gallery, PICTURE, "Before the trimming")
    gallery.kill_listener()
    photo = upload(gallery, OTHER, "Trimmed")
    live.await_end_of(name_of(gallery, photo))
    live.redis.xtrim("media:events", maxlen=0, approximate=False)

    gallery.listen()
    await_state(gallery, photo, "ready")


@pytest.mark.campaign
def test_listeners_may_share_their_messages_as_a_group(gallery: DjangoSite) -> None:
    before = ready(gallery, PICTURE, "Before the group")
    [old] = images(page(gallery, f"/{before}/"))
    gallery.stop_listener()

    gallery.listen("--group", "gallery")
    ready(gallery, OTHER, "By the group")

    assert images(page(gallery, f"/{before}/")) == [old]


def test_checks_find_what_is_wrong_and_ask_no_redis(gallery: DjangoSite) -> None:
    fine, wrong, elsewhere, waiting = gallery.run(
        """
        from datetime import timedelta
        from django.apps import apps
        from django.conf import settings
        from django.core.checks import run_checks
        from django.db import models, transaction
        from django.test import override_settings
        from django.utils import timezone
        from media_worker_django import fields, models as rows

        def ids(**options):
            return sorted(one.id for one in run_checks(**options) if "media" in one.id)

        fine = ids(databases=["default"], include_deployment_checks=True)
        settings_of_worker = {"REDIS_URL": "127.0.0.1", "REDIS": "", "DELETE_AFTER": "1 h"}
        with override_settings(MEDIA_WORKER=settings_of_worker, MEDIA_ROOT=f"{settings.MEDIA_ROOT}/uploads"):
            wrong = ids(include_deployment_checks=True)

        class Elsewhere(models.Model):
            image = fields.MediaField(upload_to="photos/")
            class Meta:
                app_label = "photos"

        elsewhere = [one.id for one in Elsewhere.check()]
        del apps.all_models["photos"]["elsewhere"]
        apps.clear_cache()
        with transaction.atomic():
            late = timezone.now() - timedelta(hours=1)
            rows.Upload.objects.create(id="0" * 32, source="uploads/late.jpg")
            rows.Upload.objects.update(changed=late)
            rows.Position.objects.all().delete()
            waiting = ids(databases=["default"])
            transaction.set_rollback(True)
        answer = [fine, wrong, elsewhere, waiting]
        """
    )

    assert fine == []
    assert wrong == [f"media_worker_django.{code}" for code in ("E002", "E003", "E003", "E006", "W007")]
    assert elsewhere == ["media_worker_django.E004"]
    assert waiting == ["media_worker_django.W008"]


def test_the_readme_names_each_setting_with_its_default(gallery: DjangoSite) -> None:
    defaults = gallery.run("from media_worker_django.conf import DEFAULTS; answer = dict(DEFAULTS)")
    table = README.read_text("utf-8").partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0]
    rows = [re.findall("`([^`]*)`", "|".join(row.split("|")[1:3])) for row in table.splitlines()[3:] if row]
    named = {
        name: ast.literal_eval(value)
        for row in rows
        for name, value in zip(row[: len(row) // 2], row[len(row) // 2 :], strict=True)
    }

    assert named == defaults


@pytest.mark.parametrize("hashed", ["1mYGRZYXaIhwh4iBilmIhhePcnAI", "3OcRJYB4d3h/iIeHeEh3eIhw+j2w"])
def test_the_placeholder_is_what_the_worker_sees_in_a_thumbhash(hashed: str) -> None:
    path = ROOT / "clients/django/media_worker_django/thumbhashes.py"
    spec = spec_from_file_location("thumbhashes", path)
    assert spec is not None
    assert spec.loader is not None
    decoder: Any = module_from_spec(spec)
    spec.loader.exec_module(decoder)

    width, height, rgb = decoder._pixels(b64decode(hashed))

    expected = thumbhash.pixels(b64decode(hashed))
    assert (width, height) == (expected.width, expected.height)
    assert max(abs(a - b) for a, b in zip(rgb, expected.rgb, strict=True)) <= 1
