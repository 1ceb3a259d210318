"""MediaField in forms, templates and the admin: what is shown, what it leads to, and what it says."""

from collections.abc import Iterator

import pytest

from tests.support.django_pages import images
from tests.support.django_shop import SQLITE, DjangoShop, new_shop


@pytest.fixture(scope="module")
def shop(django_version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DjangoShop]:
    home = tmp_path_factory.mktemp("shop")
    shop = new_shop(home, django_version, {"default": {**SQLITE, "NAME": str(home / "shop.sqlite3")}})
    yield shop
    shop.close()


@pytest.mark.parametrize("widget", ["ClearableFileInput", "AdminFileWidget"])
def test_a_form_shows_the_picture_that_is_there_and_leads_to_no_original(
    shop: DjangoShop, widget: str
) -> None:
    name, html = shop.trying(
        f"""
        from django.contrib.admin.widgets import AdminFileWidget
        from django.forms import ClearableFileInput, modelform_factory
        Form = modelform_factory(Photo, fields=["title", "image"], widgets={{"image": {widget}}})
        cat = photo()
        media.deliver()
        answer = [cat.image.name, str(Form(instance=Photo.objects.get()))]
        """
    )

    assert name not in html
    assert 'href="/media/variants/' in html
    assert [(one["height"], one["src"].startswith("/media/variants/")) for one in images(html)] == [
        ("75", True)
    ]
    assert images(html)[0]["alt"] == name.rpartition("/")[2]  # or the link would have no name
    assert 'name="image-clear"' in html
    assert 'accept="image/*"' in html


def test_a_form_says_what_became_of_a_picture_that_has_no_variants(shop: DjangoShop) -> None:
    pending, failed = shop.trying(
        """
        from django.forms import modelform_factory
        Form = modelform_factory(Photo, fields=["image"])
        cat = photo()
        answer = [str(Form(instance=cat))]
        Upload.objects.update(state="failed", error_message="The file is damaged or incomplete.")
        answer += [str(Form(instance=Photo.objects.get()))]
        """
    )

    assert "The picture is being prepared." in pending
    assert "The file is damaged or incomplete." in failed
    assert "uploads/" not in pending + failed
    assert 'name="image-clear"' in failed


def test_a_page_that_is_shown_again_with_a_form_that_was_refused_has_the_old_picture(
    shop: DjangoShop,
) -> None:
    old, again, new = shop.trying(
        """
        from django.core.files.uploadedfile import SimpleUploadedFile
        from django.forms import modelform_factory
        from django.template import Context, Template
        page = Template("{% load media %}{% media photo.image 'thumb' %}")
        Form = modelform_factory(Photo, fields=["title", "image"])
        cat = photo()
        media.deliver()
        cat = Photo.objects.get()
        answer = [page.render(Context({"photo": cat}))]
        for instance in (cat, Photo()):
            form = Form({"title": ""}, {"image": SimpleUploadedFile("new.jpg", b"new")}, instance=instance)
            assert not form.is_valid()
            answer.append(page.render(Context({"photo": instance})))
        """
    )

    assert old.startswith("<img")
    assert again == old
    assert new == ""


def test_what_a_file_that_is_not_saved_shows_takes_two_queries(shop: DjangoShop) -> None:
    """One for the name that the row has, and one for what is known of it."""
    answer = shop.trying(
        """
        from django.test.utils import CaptureQueriesContext
        cat = photo()
        media.deliver()
        cat.image = picture("new")
        answer = []
        for name in ("variants", "error"):
            with CaptureQueriesContext(connection) as queries:
                shown = getattr(cat.image, name)
            answer.append([len(shown), len(queries)])
        """
    )

    assert answer == [[3, 2], [0, 2]]


def test_what_is_too_large_is_told_in_the_words_of_the_worker(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from django.core.files.uploadedfile import SimpleUploadedFile
        from django.utils import translation
        from media_worker_django.limits import limit, megabytes
        file = SimpleUploadedFile("large.jpg", bytes(12_600_000))
        answer = []
        for refuse in (  # as forms do, and serializers of Django REST framework
            Photo(title="large", image=file).full_clean,
            lambda: Photo._meta.get_field("image").run_validators(file),
        ):
            try:
                refuse()
            except ValidationError as error:
                answer += error.messages
        answer += [limit(1_500_000), megabytes(12), megabytes(1)]
        with translation.override("de"):
            answer += [megabytes(12_600_000)]
        """
    )

    said = "The file has 12.6 MB; at most 10 MiB are accepted."
    assert answer == [said, said, "1.5 MB", "12 bytes", "1 byte", "12,6 MB"]


def test_the_tag_lets_no_text_become_html(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from django.template import Context, Template
        cat = photo()
        media.deliver()
        hostile = '\\"><script>alert(1)</script>'
        code = "{% load media %}{% media photo.image sizes=x alt=x class=x data_x=x loading=x %}"
        code += "{% media photo.image alt=nothing %}"
        told = {"photo": Photo.objects.get(), "x": hostile, "nothing": None}
        answer = [Template(code).render(Context(told))]
        Upload.objects.update(state="failed", error_message=hostile, variants=[])
        answer += [Template(code).render(Context({"photo": Photo.objects.get()}))]
        """
    )

    picture, failed = answer
    assert "<script" not in picture + failed
    first, second = images(picture)
    assert first["alt"] == first["class"] == first["data-x"] == '"><script>alert(1)</script>'
    assert second["alt"] == ""
