"""Sizes that are added to a recipe, through the real worker: what is there keeps its bytes and its times."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import obstore
import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import SeaweedServer
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import Workplace, database_on

ADDED = """
[default]
extends = "default"
xlarge = {box = 2560}
card = {box = 1000}
tiny = {box = 16}
"""
Moments = Callable[[Sequence[str]], Mapping[str, object]]


@pytest.fixture
def on_servers(
    redis_server: RedisServer, seaweedfs: SeaweedServer, postgres_catalog_url: str, tmp_path: Path
) -> Iterator[S3Workplace]:
    """An installation with its files in a bucket, and its catalog in Postgres."""
    place = S3Workplace(tmp_path, database_on(redis_server.url), seaweedfs)
    place.settings["MEDIA_CATALOG_URL"] = postgres_catalog_url
    yield place
    place.close()


def keys_of(message: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["key"] for one in message["variants"]}


def check_that_added_sizes_change_nothing(place: Workplace, moments: Moments) -> None:
    """Add a larger, a smaller and a size between, and compare the names, bytes and times of the others."""
    source = place.put("uploads/cat.jpg", pictures.wide())
    place.send({"source": source})
    place.run("media", "--burst")
    before = keys_of(place.await_end_of(source)[source])
    keys = list(before.values())
    seen = moments(keys), [sha256(found or b"").digest() for found in place.storage.contents(keys)]
    (place.home / "recipes.toml").write_text(ADDED)
    place.settings["MEDIA_RECIPES"] = str(place.home / "recipes.toml")
    queued = document(media(place.env(), "reprocess", "--stale", "--json"))
    place.run("media", "--burst")
    after = keys_of(place.await_end_of(source, times=2)[source])

    assert queued["queued"] == 1
    assert list(after) == ["thumb", "medium", "large", "xlarge", "card", "tiny"]
    assert before.items() <= after.items()
    assert moments(keys) == seen[0]
    assert [sha256(found or b"").digest() for found in place.storage.contents(keys)] == seen[1]
    assert place.storage.keys("variants") == set(after.values())


def test_sizes_that_are_added_change_no_file_that_is_there(workplace: Workplace) -> None:
    def moments(keys: Sequence[str]) -> Mapping[str, object]:
        found = {key: (workplace.root / key).stat() for key in keys}
        return {key: (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns) for key, seen in found.items()}

    check_that_added_sizes_change_nothing(workplace, moments)


def test_a_recipe_that_drops_what_uploads_have_is_told_at_start_and_by_the_doctor(
    workplace: Workplace,
) -> None:
    source = workplace.put("uploads/cat.jpg", pictures.small())
    workplace.send({"source": source})
    workplace.run("media", "--burst")
    recipes = workplace.home / "recipes.toml"
    recipes.write_text("[default]\nmedium = {box = 800}\nlarge = {box = 1920}\n")
    workplace.settings["MEDIA_RECIPES"] = str(recipes)
    started = workplace.run("media", "--burst")
    doctor = media(workplace.env(MEDIA_FORMATS="jpeg"), "doctor", "--json")

    said = "default makes no thumb any more, as about 1 upload has"
    [found] = [one for one in document(doctor) if one["what"] == "Recipes"]
    assert said in started.stderr
    assert (found["level"], found["detail"]) == ("warning", said)


def test_a_recipe_that_is_gone_is_told_at_start_and_by_the_doctor_and_its_files_stay(
    workplace: Workplace,
) -> None:
    recipes = workplace.home / "recipes.toml"
    recipes.write_text('[avatar]\nextends = "default"\n')
    workplace.settings["MEDIA_RECIPES"] = str(recipes)
    source = workplace.put("uploads/cat.jpg", pictures.small())
    workplace.send({"source": source, "recipe": "avatar"})
    workplace.run("media", "--burst")
    del workplace.settings["MEDIA_RECIPES"]
    started = workplace.run("media", "--burst")
    doctor = media(workplace.env(MEDIA_FORMATS="jpeg"), "doctor", "--json")
    queued = document(media(workplace.env(), "reprocess", "--stale", "--json"))

    said = "the recipe avatar is gone, and at least 1 upload has its large, medium, thumb"
    [found] = [one for one in document(doctor) if one["what"] == "Recipes"]
    assert said in started.stderr
    assert (found["level"], found["detail"]) == ("warning", said)
    assert queued["queued"] == 0


def test_sizes_that_are_added_change_no_object_in_a_bucket(on_servers: S3Workplace) -> None:
    def moments(keys: Sequence[str]) -> Mapping[str, object]:
        found = {key: obstore.head(on_servers.store, key) for key in keys}
        return {key: (seen["last_modified"], seen["e_tag"]) for key, seen in found.items()}

    check_that_added_sizes_change_nothing(on_servers, moments)
