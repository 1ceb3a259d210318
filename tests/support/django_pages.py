"""What a visitor of a Django site does and sees: code that runs in the site, and what is on its pages."""

from html.parser import HTMLParser
from pathlib import Path

from tests.support.django_site import DjangoSite
from tests.support.workplace import eventually

_CLIENT = "from django.test import Client; client = Client(SERVER_NAME='localhost')"


def posting(path: str, picture: Path, **fields: str) -> str:
    """A line of code that sends a form with a picture."""
    read = f"SimpleUploadedFile({picture.name!r}, open({str(picture)!r}, 'rb').read())"
    imports = f"from django.core.files.uploadedfile import SimpleUploadedFile; {_CLIENT}"
    form = f"{{**{fields!r}, 'image': {read}}}"
    return f"{imports}; sent = client.post({path!r}, {form}); assert sent.status_code == 302, sent"


def upload(site: DjangoSite, picture: Path, title: str, path: str = "/new/") -> int:
    """Send the form of the example; returns the key of the photo."""
    site.run(posting(path, picture, title=title))
    found = site.run(
        f"from photos.models import Photo; answer = Photo.objects.filter(title={title!r}).first().pk"
    )
    return int(found)


def ready(site: DjangoSite, picture: Path, title: str) -> int:
    """The same, once its variants are there."""
    photo = upload(site, picture, title)
    await_state(site, photo, "ready")
    return photo


def of_photo(photo: int, code: str) -> str:
    """A line of code about a photo."""
    return f"from photos.models import Photo; photo = Photo.objects.get(pk={photo}); {code}"


def state(site: DjangoSite, photo: int) -> str:
    """What became of its file."""
    return str(site.run(of_photo(photo, "answer = photo.image.state")))


def await_state(site: DjangoSite, photo: int, expected: str) -> None:
    """Wait until that has become of it."""
    eventually(lambda: state(site, photo) == expected)


def states_of(site: DjangoSite, source: str) -> list[str]:
    """The state of the upload of a file; none where it is gone."""
    code = f"answer = [one.state for one in Upload.objects.filter(source={source!r})]"
    return list(site.run(f"from media_worker_django.models import Upload; {code}"))


def name_of(site: DjangoSite, photo: int) -> str:
    """The name of its file."""
    return str(site.run(of_photo(photo, "answer = photo.image.name")))


def page(site: DjangoSite, path: str) -> str:
    """The HTML of a page."""
    return str(site.run(f"{_CLIENT}; answer = client.get({path!r}).content.decode()"))


def fetch(site: DjangoSite, path: str) -> tuple[int, str]:
    """The status of a file, and its first bytes as hexadecimal digits."""
    code = f"{_CLIENT}; got = client.get({path!r}); answer = [got.status_code, got.getvalue()[:2].hex()]"
    status, begin = site.run(code)
    return status, begin


def images(html: str) -> list[dict[str, str]]:
    """The attributes of each `<img>`."""
    found = _Images()
    found.feed(html)
    return found.images


class _Images(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append({name: value or "" for name, value in attrs})
