"""The types of the settings, which refuse a wrong value with a reason for people."""

import re
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from pipelines import formats
from storage.backups.keep import Keep
from storage.backups.places import check_apart
from storage.blobs.opening import check_backend
from storage.blobs.s3_place import S3Place, check_endpoint, is_s3, parse_s3
from storage.catalog.address import Address, mistake_in
from storage.errors import BackendMissing, CopyRefused
from worker.crontab import check_crontab
from worker.domains import parse_domains
from worker.listen_address import parse_address, parse_bind
from worker.queue.url import check_url
from worker.webhooks.signing import MAKE, check_endpoint_url, parse_secrets

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")  # the first that is set counts
_KEY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_INSTEAD_OF_A_KEY = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
)
_LONGEST_LABEL = 24
_LEAST_SECRET = 32  # bytes, as RFC 7518 asks of HS256
# What follows the stream's name in keys beside it.
_OF_THE_QUEUE = re.compile(
    r"jobs|queues|workers|catalog|relay|(jobs|health|worker|receipts|tokens|names|arq):.*", re.DOTALL
)


def _stream(value: str, info: ValidationInfo) -> str:
    events = info.data.get("events")
    if value == events:
        raise ValueError("must differ from MEDIA_EVENTS, the stream of messages")
    rest = str(events).removeprefix(f"{value}:")
    if rest != events and _OF_THE_QUEUE.fullmatch(rest):
        raise ValueError(f"uses the key {events} for something else; choose another MEDIA_EVENTS")
    return value


def _app_streams(value: str, info: ValidationInfo) -> str:
    stream, events = (info.data.get(name) for name in ("stream", "events"))
    if stream is not None and events is not None:  # otherwise that is the mistake
        parse_domains(value, stream, events)
    return value


def _listen_address(value: str) -> str:
    if value:
        parse_address(value)
    return value


def _bind(value: str) -> str:
    parse_bind(value)
    return value


def _secret(value: str) -> str:
    if value and len(value.encode()) < _LEAST_SECRET:
        raise ValueError(f"has at least {_LEAST_SECRET} bytes; openssl rand -hex 32 makes one")
    return value


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?", value):
        raise ValueError(f"may list origins such as https://app.example.com, not {value}")
    return value


def _proxy(value: str) -> str:
    if value != "unix":
        try:
            ip_network(value)
        except ValueError as error:
            raise ValueError(
                f"may list addresses, networks such as 10.0.0.0/8, and unix, not {value}"
            ) from error
    return value


def _http_files(value: str, info: ValidationInfo) -> str:
    if value == "signed" and not info.data.get("http_secret", ""):
        raise ValueError("signed needs MEDIA_HTTP_SECRET")
    return value


def _send_files(value: str, info: ValidationInfo) -> str:
    if value not in ("direct", "redirect") and not re.fullmatch(r"accel:/([A-Za-z0-9_.-]+/)+", value):
        raise ValueError("must be direct, redirect or accel:/PREFIX/")
    if value == "redirect" and not is_s3(str(info.data.get("storage_url", "s3://"))):
        raise ValueError("redirect leads to a bucket, and MEDIA_STORAGE_URL names none")
    return value


def _base_url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("must be a URL such as https://media.example.com, without ? and #")
    return value.rstrip("/")


def _webhook_url(value: str) -> str:
    return check_endpoint_url(value) if value else value


def _webhook_secrets(value: str, info: ValidationInfo) -> str:
    if not value.strip() and info.data.get("webhook_url"):
        raise ValueError(f"must be set where MEDIA_WEBHOOK_URL is; {MAKE} makes one")
    parse_secrets(value)
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


def as_aws_says(url: str, variables: Mapping[str, str]) -> str:
    """The URL of a storage: a bucket lies where the variables of AWS say if nothing else does.

    The client would go there by itself, but as if the bucket stood in the host's name. Raises: ValueError,
    also where those variables lack what opens a bucket.
    """
    if not is_s3(url):
        return url
    place = parse_s3(url)
    name = next(filter(variables.get, _ENDPOINTS), "")
    if name and not place.endpoint:
        try:
            place = replace(place, endpoint=check_endpoint(variables[name]))
        except ValueError as error:
            raise ValueError(f"goes by {name}, which {error}") from error
    _check_credentials(place, variables)
    return place.url


def _check_credentials(place: S3Place, variables: Mapping[str, str]) -> None:
    """Raises: ValueError where half a key is missing, or all of it where nobody else can give one."""
    lacking = [name for name in _KEY if not variables.get(name)]
    if len(lacking) == 1:
        [given] = set(_KEY) - {*lacking}
        raise ValueError(f"needs {lacking[0]} beside {given}, which is set")
    if lacking and not place.is_on_aws and not any(map(variables.get, _INSTEAD_OF_A_KEY)):
        raise ValueError(f"needs credentials, and there are none: set {' and '.join(_KEY)}")


def _backup(value: str, info: ValidationInfo) -> str:
    url, given = str(info.data.get("storage_url", "")), str(info.data.get("catalog_url", ""))
    try:
        if value:
            catalog = Address(given)
            check_apart(Path(value), url, catalog.path if catalog.is_file else None)
    except CopyRefused as error:
        raise ValueError(f"cannot be used: {error}") from error
    return value


def _keep(value: str) -> str:
    Keep.parse(value)
    return value


def _catalog_url(value: str) -> str:
    """The URL of a catalog; many providers write the scheme of Postgres in short."""
    value = re.sub(r"^postgres://", "postgresql://", value)
    if mistake := mistake_in(value):
        raise ValueError(mistake)
    return value


def _catalog_read_url(value: str, info: ValidationInfo) -> str:
    if not value:
        return value
    value = _catalog_url(value)
    if Address(value).is_file or Address(str(info.data.get("catalog_url", value))).is_file:
        raise ValueError("names a replica, which only a catalog on Postgres has")
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
        from pipelines.recipe_file import RecipeMistakes, load_recipes  # few name a file

        try:
            load_recipes(value)
        except RecipeMistakes as error:
            raise ValueError(_mistakes_in(value, error)) from error
    return value


def _webhook_endpoints(value: Path | None) -> Path | None:
    if value is not None:
        from worker.webhooks.endpoint_file import EndpointMistakes, load_endpoints  # few name a file

        try:
            load_endpoints(value)
        except EndpointMistakes as error:
            raise ValueError(_mistakes_in(value, error)) from error
    return value


def _mistakes_in(file: Path, error: Exception) -> str:
    first, *more = str(error).splitlines()
    said = "\n  ".join([f"{file} has {1 + len(more)} mistakes:", first, *more])
    return said if more else f"{file}: {first}"


def _header_name(value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z0-9-]{1,64}", value):
        raise ValueError("must be the name of a header, such as X-Forwarded-User")
    if value.lower() in ("authorization", "cookie", "host", "origin"):
        raise ValueError(f"{value} says other things than who the user is")
    return value


def _label(value: str) -> str:
    if len(value) > _LONGEST_LABEL or not value.isprintable():
        raise ValueError(f"must be at most {_LONGEST_LABEL} printable characters")
    return value


RedisUrl = Annotated[str, AfterValidator(check_url)]
S3Endpoint = Annotated[str, AfterValidator(check_endpoint)]
StorageUrl = Annotated[str, AfterValidator(_storage_url)]
CatalogUrl = Annotated[str, AfterValidator(_catalog_url)]
CatalogReadUrl = Annotated[str, AfterValidator(_catalog_read_url)]
StreamName = Annotated[str, AfterValidator(_stream)]
AppStreamList = Annotated[str, AfterValidator(_app_streams)]
FormatNames = Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(_known_formats)]
RecipeFile = Annotated[Path | None, BeforeValidator(_or_none), AfterValidator(_recipes)]
Bind = Annotated[str, AfterValidator(_bind)]
Secret = Annotated[str, AfterValidator(_secret)]
Origin = Annotated[str, AfterValidator(_origin)]
Origins = Annotated[tuple[Origin, ...], BeforeValidator(_names)]
Proxy = Annotated[str, AfterValidator(_proxy)]
Proxies = Annotated[tuple[Proxy, ...], BeforeValidator(_names)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Label = Annotated[str, AfterValidator(_label)]
HttpFiles = Annotated[Literal["public", "signed"], AfterValidator(_http_files)]
SendFiles = Annotated[str, AfterValidator(_send_files)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
WebhookSecrets = Annotated[str, AfterValidator(_webhook_secrets)]
WebhookEndpointFile = Annotated[Path | None, BeforeValidator(_or_none), AfterValidator(_webhook_endpoints)]
BackupPlace = Annotated[str, AfterValidator(_backup)]
BackupKeep = Annotated[str, AfterValidator(_keep)]
Crontab = Annotated[str, AfterValidator(check_crontab)]
