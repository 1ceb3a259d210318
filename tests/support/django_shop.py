"""A Django project for the tests, with models of each kind, and with a worker that is none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.postgres_server import USER, PostgresServer
from tests.support.clients import ROOT, django, psycopg, redis_py
from tests.support.django_site import DjangoPackages, DjangoSite, python_for
from tests.support.postgres import create_database

SQLITE = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 20}}
_SETTINGS = """
SECRET_KEY = "of a test"
ALLOWED_HOSTS, ROOT_URLCONF = ["localhost"], "shop.urls"
INSTALLED_APPS = [
    *(f"django.contrib.{{name}}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")),
    "shop",
    "media_worker_django",
]
# The tables of others are made at once, and not by all the migrations that they have had.
MIGRATION_MODULES = dict.fromkeys(("admin", "auth", "contenttypes", "sessions"))
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
DATABASES = {databases!r}
DATABASE_ROUTERS = {routers!r}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
MEDIA_ROOT, MEDIA_URL = {media!r}, "/media/"
MEDIA_WORKER = {{"REDIS_URL": {redis!r}}}
TEMPLATES = [{{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {{"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]}},
}}]
USE_TZ = True
"""
_MODELS = """
import uuid

from django.db import models
from media_worker_django.fields import MediaField


class Photo(models.Model):
    title = models.CharField(max_length=100, unique=True)
    image = MediaField(blank=True)


class WithCover(models.Model):
    cover = MediaField(blank=True)

    class Meta:
        abstract = True


class Album(WithCover):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    back = MediaField(blank=True)


class Panorama(Photo):
    overview = MediaField(blank=True)


class PhotoByAnotherName(Photo):
    class Meta:
        proxy = True
"""
_ADMIN = """
from django.contrib import admin

from shop.models import Photo

admin.site.register(Photo)
"""
_URLS = """
from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
"""
_TRYING = '''
"""What the code of each test begins with."""

from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.test import SimpleTestCase, override_settings
from django.utils import timezone
from media_worker_client import MediaClient
from media_worker_django import announcing, conf
from media_worker_django.models import Position, Upload
from media_worker_django.testing import fake_media

from shop.models import *


def picture(name):
    return ContentFile(b"the bytes of " + name.encode(), f"{name}.jpg")


def photo(title="cat", name="old", model=Photo):
    return model.objects.create(title=title, image=picture(name))


@contextmanager
def empty_shop():
    """A shop that has nothing, and a worker that is none."""
    for alias in connections:
        for model in (Photo, Album):
            model.objects.using(alias).all().delete()
        for model in (Upload, Position):
            model.objects.using(alias).all().delete()
    with fake_media() as media:
        yield media


def options(**changed):
    return override_settings(MEDIA_WORKER={**settings.MEDIA_WORKER, **changed})


def states():
    """The state of each upload, by the name that `picture` had."""
    found = Upload.objects.values_list("source", "state")
    files = [(source.rpartition("/")[2], state) for source, state in found]
    return {file.partition("_")[0].removesuffix(".jpg"): state for file, state in files}


def shown(file):
    """What becomes of the file of a row, and whether a page has a picture of it."""
    return [str(file.state), "thumb" in file.variants]
'''


class DjangoShop(DjangoSite):
    """The project in a folder; code that it runs has an empty shop, and `media`, the worker that is none."""

    def trying(self, code: str) -> Any:
        """Run code in an empty shop; returns what it assigns to `answer`."""
        lines = "\n".join(f"    {line}" for line in code.splitlines())
        return self.run(f"from shop.trying import *\nwith empty_shop() as media:\n{lines}\n")


def new_shop(
    home: Path,
    version: str,
    databases: Mapping[str, Mapping[str, object]],
    *,
    router: str = "",
    media: Path | None = None,
    redis: str = "redis://127.0.0.1:1/0",
) -> DjangoShop:
    """The project with empty tables in each database; `router` is the code of the class `Router`."""
    settings = _SETTINGS.format(
        databases=dict(databases),
        routers=["shop.router.Router"] if router else [],
        media=str(media or home / "media"),
        redis=redis,
    )
    for name, text in {
        "site_settings.py": settings,
        "manage.py": "from django.core.management import execute_from_command_line as run; run()",
        "shop/__init__.py": "",
        "shop/models.py": _MODELS,
        "shop/admin.py": _ADMIN,
        "shop/urls.py": _URLS,
        "shop/trying.py": _TRYING,
        "shop/router.py": router,
    }.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    python = python_for(version)
    paths = [ROOT / "clients/django", ROOT / "clients/python", django(version, python), redis_py("8.1.0")]
    if any("postgresql" in str(one["ENGINE"]) for one in databases.values()):
        paths.append(psycopg(python))
    packages = DjangoPackages(
        python, {"PYTHONPATH": ":".join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    )
    shop = DjangoShop(home, "site_settings", packages, home / "listener.log")
    for alias in databases:
        migrate = f"call_command('migrate', run_syncdb=True, verbosity=0, database={alias!r})"
        shop.run(f"from django.core.management import call_command; {migrate}")
    return shop


def database_of(kind: str, home: Path, request: pytest.FixtureRequest) -> dict[str, object]:
    """How Django's settings name an empty database of that kind."""
    if kind == "sqlite":
        return {**SQLITE, "NAME": str(home / "shop.sqlite3")}
    return on_postgres(request.getfixturevalue("postgres_server"), f"shop_{home.name.lower()}")


def on_postgres(server: PostgresServer, name: str) -> dict[str, object]:
    """A new database of that name."""
    create_database(server, name)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": "127.0.0.1",
        "PORT": server.port,
        "USER": USER,
        "PASSWORD": server.password,
    }
