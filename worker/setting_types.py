"""The types of the settings, which refuse a wrong value with a reason for people."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_settings import NoDecode

from pipelines import formats
from pipelines.recipe_file import RecipeMistakes, load_recipes
from storage.blobs.opening import check_backend
from storage.blobs.s3_place import check_endpoint, is_s3, parse_s3
from storage.catalog.address import mistake_in
from storage.errors import BackendMissing
from worker.crontab import check_crontab
from worker.queue.url import check_url

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # the first that is set counts
# What follows the stream's name in keys beside it.
_OF_THE_QUEUE = re.compile(r"jobs|queues|workers|catalog|(jobs|health|arq):.*", re.DOTALL)


def _stream(value: str, info: ValidationInfo) -> str:
    events = info.data.get("events")
    if value == events:
        raise ValueError("must differ from MEDIA_EVENTS, the stream of messages")
    rest = str(events).removeprefix(f"{value}:")
    if rest != events and _OF_THE_QUEUE.fullmatch(rest):
        raise ValueError(f"uses the key {events} for something else; choose another MEDIA_EVENTS")
    return value


def _storage_url(value: str, info: ValidationInfo) -> str:
    """The URL with everything that opening it takes, as the settings of S3 complete it."""
    if not value.startswith("s3:"):
        if not value.startswith("file:") or len(value) == len("file:"):
            raise ValueError("must be file:PATH or s3://BUCKET[/PREFIX]")
        return value
    place, given = parse_s3(value), info.data or {}
    addressing = given.get("s3_addressing", "auto") if place.addressing == "auto" else place.addressing
    endpoint = place.endpoint or given.get("s3_endpoint", "")
    try:
        check_backend(value)
    except BackendMissing as error:
        raise ValueError(str(error)) from error
    return replace(place, endpoint=endpoint, addressing=addressing).url


def at_the_endpoint_of_aws(url: str, variables: Mapping[str, str]) -> str:
    """The URL of a bucket, which lies where the variables of AWS say if nothing else does.

    The client would go there by itself, but as if the bucket stood in the host's name. Raises: ValueError.
    """
    name = next(filter(variables.get, _ENDPOINTS), "")
    if not name or not is_s3(url) or (place := parse_s3(url)).endpoint:
        return url
    try:
        return replace(place, endpoint=check_endpoint(variables[name])).url
    except ValueError as error:
        raise ValueError(f"goes by {name}, which {error}") from error


def _catalog_url(value: str) -> str:
    if mistake := mistake_in(value):
        raise ValueError(mistake)
    return value


def _names(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _known_formats(value: tuple[str, ...]) -> tuple[str, ...]:
    known = [known.name for known in formats.FORMATS]
    unknown = sorted(set(value) - set(known))
    if unknown or not value:
        raise ValueError(f"may list {', '.join(known)}, not {', '.join(unknown) or 'nothing'}")
    return value


def _or_none(value: object) -> object:
    return None if value == "" else value


def _recipes(value: Path | None) -> Path | None:
    if value is not None:
        try:
            load_recipes(value)
        except RecipeMistakes as error:
            raise ValueError(str(error)) from error
    return value


RedisUrl = Annotated[str, AfterValidator(check_url)]
S3Endpoint = Annotated[str, AfterValidator(check_endpoint)]
StorageUrl = Annotated[str, AfterValidator(_storage_url)]
CatalogUrl = Annotated[str, AfterValidator(_catalog_url)]
StreamName = Annotated[str, AfterValidator(_stream)]
FormatNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_known_formats)]
RecipeFile = Annotated[Path | None, BeforeValidator(_or_none), AfterValidator(_recipes)]
Crontab = Annotated[str, AfterValidator(check_crontab)]
