"""Every setting: the only reader of the environment. All mistakes are reported at once, by variable."""

import os
import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipelines import formats
from pipelines.allowance import CHILD_MEMORY, PARENT_MEMORY, Confinement, Isolation
from pipelines.formats import MIB
from pipelines.recipe import BUILT_IN, Recipes
from storage.backups.keep import Keep
from storage.blobs.opening import shown
from storage.catalog.address import POOL, Address
from storage.paths import folder_of
from worker import setting_types as types
from worker.domains import Domains, parse_domains
from worker.env_files import INSTEAD, EnvFile, export_aws, export_otel, find_env_files
from worker.limits import MemoryLimit, available_cpus, memory_limit, usual_confinement
from worker.listen_address import is_loopback, parse_address, parse_bind

if TYPE_CHECKING:
    from worker.webhooks.endpoint_file import EndpointTable

PREFIX = "MEDIA_"
_OF_OTHERS = {INSTEAD, "MEDIA_ROOT", "MEDIA_URL"}  # those of Django, which often shares our environment
# Or part of it is.
_SECRET = (
    *("redis_url", "catalog_url", "catalog_read_url", "http_secret"),
    *("webhook_url", "webhook_secret"),
)
_WHERE = ("MEDIA_REDIS_URL", "MEDIA_STORAGE_URL", "MEDIA_CATALOG_URL")  # a default may be somebody else's
LEAST_MEMORY_MB = 192  # for a worker, an idle decoder and one that decodes an ordinary picture


class SettingsError(Exception):
    """The environment does not describe a worker; the message has a line for each mistake."""


class Settings(BaseModel):
    """The settings of a worker. Field descriptions are the README's table."""

    model_config = ConfigDict(frozen=True, validate_default=True, hide_input_in_errors=True)

    redis_url: types.RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # may hold a password
        description="`redis://`, `rediss://` (TLS) or `unix://`; `redis+sentinel://HOST[,HOST2]/NAME/0` asks "
        "Sentinels for the primary; Redis or Valkey, 6.2 or newer",
    )
    s3_endpoint: types.S3Endpoint = Field(
        "",
        description="where `MEDIA_STORAGE_URL` names a bucket: `https://HOST[:PORT]` of its server; default: "
        "what `AWS_ENDPOINT_URL` says, or AWS",
    )
    s3_addressing: Literal["auto", "path"] = Field(
        "auto", description="`path`: a bucket stands in the path of requests; `auto`: on AWS in the host"
    )
    storage_url: types.StorageUrl = Field(
        "file:./var/media",
        description="what holds `uploads/` and `variants/`: `file:PATH`, or `s3://BUCKET[/PREFIX]` with the "
        "keys, region and roles that `AWS_*` name",
    )
    catalog_url: types.CatalogUrl = Field(
        "sqlite+aiosqlite:///./var/catalog.db",
        repr=False,  # may hold a password
        description="`sqlite+aiosqlite:///PATH`, or for many hosts "
        "`postgresql+asyncpg://USER:PASSWORD@HOST[,HOST]/DATABASE[?sslmode=…]`",
    )
    catalog_read_url: types.CatalogReadUrl = Field(
        "",
        repr=False,  # may hold a password
        description="a replica of the catalog on Postgres that the HTTP server reads while it answers; "
        "empty: the catalog itself",
    )
    catalog_pool: int = Field(
        POOL,
        ge=1,
        le=100,
        description="connections of a worker to a catalog on Postgres, at most; of `media serve`: "
        "twice as many",
    )
    catalog_pooler: bool = Field(
        False, description="whether they lead to a pooler that shares out transactions, such as PgBouncer"
    )
    events: str = Field(
        "media:events",
        min_length=1,
        description="the stream of messages; two installations on one Redis need both streams of their own",
    )
    stream: types.StreamName = Field(
        "media:uploads", min_length=1, validate_default=True, description="the stream that apps write"
    )
    streams: types.AppStreamList = Field(
        "",
        description="streams of single apps, each with the sources that it may speak of: "
        "`media:uploads:shop=uploads/shop/,…`; the names begin with `MEDIA_STREAM`, see "
        "[Apps apart](docs/redis.md#apps-apart)",
    )
    max_source_bytes: int = Field(
        10_485_760, ge=1, le=100 * MIB, description="bytes; larger uploads are refused before they are read"
    )
    max_pixels: int = Field(
        100_000_000,
        ge=1,
        le=1_000_000_000,
        description="pictures with more pixels are refused from their header",
    )
    memory_mb: int = Field(
        512,
        ge=LEAST_MEMORY_MB,
        description="MiB, the budget of the whole process tree; at most the container's or a process's limit",
    )
    cpus: int = Field(
        default_factory=available_cpus,
        ge=1,
        description="decoders at once, at most (`MEDIA_MEMORY_MB` - 96) / 96",
    )
    batch_size: int = Field(50, ge=1, le=1000, description="events taken from the stream at once")
    image_timeout: float = Field(
        20,
        gt=0,
        le=600,
        description="CPU seconds for one image at most (small ones get fewer), three times that on the wall; "
        "then its decoder is killed",
    )
    max_attempts: int = Field(8, ge=1, description="attempts of an upload that fails for transient causes")
    lease: float = Field(
        15, ge=0.5, description="seconds after which a dead or frozen worker's jobs and sweep are taken over"
    )
    reconcile_interval: int = Field(
        15, ge=1, le=3600, description="seconds between two searches for stalled uploads"
    )
    shutdown_wait: int = Field(
        25, ge=1, description="seconds that images in flight may take to finish after SIGTERM"
    )
    damaged: Literal["reject", "accept"] = Field(
        "reject",
        description="truncated or damaged pictures: `reject` them, or `accept` the part that decodes",
    )
    confinement: Confinement = Field(
        default_factory=usual_confinement,
        description="whether decoders must be confined by a list of system calls (`require`), are where that "
        "can be (`try`), or are not (`off`), see [The sandbox](docs/security.md#the-sandbox)",
    )
    isolation: Isolation = Field(
        "owner",
        description="which pictures one decoder may see: those of one `owner`, a single `picture`, or all "
        "(`off`), see [One decoder for many pictures](docs/security.md#one-decoder-for-many-pictures)",
    )
    formats: types.FormatNames = Field(
        tuple(known.name for known in formats.FORMATS),
        description="accepted input formats, separated by commas",
    )
    recipes: types.RecipeFile = Field(
        None, description="a TOML file of recipes, see [Recipes](#recipes); default: the built-in recipe"
    )
    adopt: Literal["enqueue", "report", "off"] = Field(
        "enqueue", description="originals without a record: `enqueue`, `report` in the log, or `off`"
    )
    settle: int = Field(
        10,
        ge=0,
        le=600,  # as long as a file is waited for that never settles
        description="seconds for which a damaged or empty original must not change before it is refused, "
        "and in which a write to a ready one has its variants made again; 0: neither",
    )
    grace: int = Field(
        86_400,
        ge=0,
        description="seconds before a file without a record is an orphan, or an original is adopted",
    )
    retention: int = Field(
        604_800,
        ge=0,
        description="seconds that quarantined files stay restorable and superseded variants stay served",
    )
    delete_originals: bool = Field(
        False, description="whether a delete event may move the original to the trash"
    )
    sweep_cron: types.Crontab = Field(
        "0 3 * * *",
        description="when a worker sweeps: a crontab line, in its local time at its start; empty: never",
    )
    sweep_apply: bool = Field(
        False, description="whether the scheduled sweep applies its plan and purges expired trash"
    )
    backup: types.BackupPlace = Field(
        "",
        description="a folder, in which a worker makes copies of the catalog, see "
        "[Back up](docs/operations.md#back-up); empty: none",
    )
    backup_cron: types.Crontab = Field(
        "30 * * * *", description="when it makes one: a crontab line, in its local time; empty: never"
    )
    backup_keep: types.BackupKeep = Field(
        "24h,14d", description="which copies stay: the newest of so many hours and days"
    )
    started: bool = Field(
        False, description="whether a message, `upload.started`, tells that work on an upload begins"
    )
    events_maxlen: int = Field(
        100_000, ge=100, description="messages kept in the stream of messages (approximately)"
    )
    metrics: types.ListenAddress = Field(
        "",
        description="`HOST:PORT` where the worker serves `/metrics`, `/healthz` and `/readyz`, see "
        "[Health](docs/operations.md#health); empty: nowhere; in the image: `0.0.0.0:8469`",
    )
    slow_ms: int = Field(
        100,
        ge=0,
        description="a statement of the catalog that takes more ms is a line in the log; 0: none is",
    )
    http_bind: types.Bind = Field(
        "127.0.0.1:8080",
        description="`HOST:PORT` or `unix:PATH` where `media serve` listens, see "
        "[Upload over HTTP](#upload-over-http); any other than this machine's needs a key "
        "(`media keys new`)",
    )
    http_url: types.BaseUrl = Field(
        "", description="the URL under which apps and browsers reach it, for links; empty: links are paths"
    )
    http_secret: types.Secret = Field(
        "",
        repr=False,
        description="the secret of at least 32 bytes that signs tokens and links to files; empty: there are "
        "none",
    )
    http_files: types.HttpFiles = Field(
        "public",
        description="`signed`: variants are served only under signed links that expire; needs "
        "`MEDIA_HTTP_SECRET`",
        validate_default=True,
    )
    http_send: types.SendFiles = Field(
        "direct",
        description="who sends variants: `direct`, `accel:/PREFIX/` (nginx, by X-Accel-Redirect to that "
        "internal location), or `redirect` (the bucket, by presigned URLs)",
    )
    http_origins: types.Origins = Field(
        (), description="origins whose pages may call it (CORS), separated by commas"
    )
    http_rate: int = Field(
        0, ge=0, description="uploads a minute that a key or a token may send to a process; 0: no limit"
    )
    http_uploads: int = Field(20, ge=1, le=1000, description="uploads that it takes at once")
    http_streams: int = Field(500, ge=1, le=10_000, description="streams of messages that it keeps open")
    http_connections: int = Field(
        2000,
        ge=10,
        le=100_000,
        description="connections that it keeps; of more, those that are idle longest are closed",
    )
    http_proxies: types.Proxies = Field(
        (),
        description="proxies before it, whose `X-Forwarded-For` its log believes: addresses, networks, and "
        "`unix` for whoever connects by a socket, separated by commas",
    )
    console: Literal["on", "off", "demo"] = Field(
        "on",
        description="`on`: `media serve` has a console, see [Console](#console); `demo`: anybody may look at "
        "it, without a key, and sees no names; `off`: there is none",
    )
    console_user_header: types.HeaderName = Field(
        "",
        description="the header in which a proxy of `MEDIA_HTTP_PROXIES` names the console's user, such as "
        "`X-Forwarded-User`; the proxy must remove it from what clients send",
    )
    console_user_scope: Literal["operate", "read"] = Field(
        "operate",
        description="what users may whom the proxy names: `operate` (save no originals) or only `read`",
    )
    environment: types.Label = Field(
        "", description="what the console shows as the name of this installation, such as `production`"
    )
    webhook_url: types.WebhookUrl = Field(
        "",
        repr=False,  # its query may hold a secret
        description="the URL to which the worker posts each message, signed, see "
        "[Webhooks](docs/webhooks.md); needs the extra `webhooks`; empty: nowhere",
    )
    webhook_secret: types.WebhookSecrets = Field(
        "",
        repr=False,
        validate_default=True,
        description="what signs them: `whsec_` and 24 to 64 bytes in base64; while it is changed two or "
        "more, with spaces between them, the new one first",
    )
    webhook_endpoints: types.WebhookEndpointFile = Field(
        None,
        description="a TOML file of further endpoints, each for some recipes or owners, see "
        "[Webhooks](docs/webhooks.md#several-endpoints)",
    )
    webhook_allow_private: bool = Field(
        False,
        description="whether they may be sent to addresses that are not public: this machine's, or of a "
        "private network",
    )
    webhook_timeout: float = Field(
        15, ge=0.1, le=60, description="seconds that the endpoint may take for an answer"
    )
    traces: Literal["off", "on"] = Field(
        "off",
        description="`on`: the worker sends spans, by OTLP over HTTP, to where `OTEL_EXPORTER_OTLP_ENDPOINT` "
        "says, see [Traces](docs/operations.md#traces); needs the extra `otel`",
    )
    log: Literal["auto", "console", "json"] = Field(
        "auto", description="`console`, `json`, or `auto`: console on a terminal, JSON elsewhere"
    )

    @property
    def recipe_book(self) -> Recipes:
        if self.recipes is None:
            return BUILT_IN
        from pipelines.recipe_file import load_recipes  # few name a file

        return load_recipes(self.recipes)

    @property
    def storage(self) -> str:
        """The storage for people."""
        return shown(self.storage_url)

    @property
    def storage_root(self) -> Path:
        """The folder of a storage that is one."""
        return folder_of(self.storage_url)

    @property
    def catalog(self) -> Address:
        """Where the catalog is, and how it is reached."""
        return Address(self.catalog_url, self.catalog_pool, self.catalog_pooler)

    @property
    def catalog_read(self) -> Address | None:
        """Where the replica is that is read in the catalog's place."""
        if not self.catalog_read_url:
            return None
        return Address(self.catalog_read_url, self.catalog_pool, self.catalog_pooler, is_replica=True)

    @property
    def catalog_path(self) -> Path:
        """The catalog's file, where it is one."""
        return self.catalog.path.absolute()

    @property
    def catalog_name(self) -> str:
        """The catalog as people are shown it, without a password."""
        return str(self.catalog_path) if self.catalog.is_file else self.catalog.name

    @cached_property
    def memory_limit(self) -> MemoryLimit | None:
        """The least limit of memory that the system sets, None where it sets none."""
        return memory_limit()

    @cached_property
    def budget_mb(self) -> int:
        """MiB for the process tree: what the setting says, or the system's limit where that is less."""
        limit = self.memory_limit
        return self.memory_mb if limit is None else min(self.memory_mb, limit.mb)

    @cached_property
    def domains(self) -> Domains:
        """The apps that have a stream of their own."""
        return parse_domains(self.streams, self.stream, self.events)

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        """The host and the port where metrics and probes are served, None: nowhere."""
        return parse_address(self.metrics) if self.metrics else None

    @property
    def http_address(self) -> tuple[str, int] | Path:
        """Where `media serve` listens."""
        return parse_bind(self.http_bind)

    @property
    def http_is_local(self) -> bool:
        """Whether only programs of this machine reach it."""
        return is_loopback(self.http_address)

    @property
    def http_reached_by(self) -> str:
        """Who reaches it who is no program of this machine's alone, where it is not local."""
        is_socket = isinstance(self.http_address, Path)
        return "whoever may open that socket, such as a proxy" if is_socket else "other machines"

    @field_validator("storage_url")
    @classmethod
    def _as_aws_says(cls, value: str) -> str:
        return types.as_aws_says(value, os.environ)

    @property
    def backup_folder(self) -> Path | None:
        """Where a worker makes copies of the catalog."""
        return Path(self.backup).absolute() if self.backup else None

    @cached_property
    def further_endpoints(self) -> "Mapping[str, EndpointTable]":
        """The endpoints of webhooks for some messages, by their names, in the order in which they choose."""
        if self.webhook_endpoints is None:
            return {}
        from worker.webhooks.endpoint_file import load_endpoints  # few name a file

        return load_endpoints(self.webhook_endpoints)

    @property
    def endpoint_names(self) -> Sequence[str]:
        """The names of the endpoints of webhooks, those that metrics have at least."""
        return ["default", *self.further_endpoints]

    @property
    def kept_copies(self) -> Keep:
        """Which of them stay."""
        return Keep.parse(self.backup_keep)

    @property
    def decoders(self) -> int:
        """How many decoders run at once: one a CPU, as far as the memory goes."""
        room = (self.budget_mb * MIB - PARENT_MEMORY) // CHILD_MEMORY
        return max(1, min(self.cpus, room))

    @property
    def uploads_per_job(self) -> int:
        """How many uploads go on a job at most: so few that a burst spreads over workers."""
        from worker.queue import MOST_UPLOADS  # with Redis' client, which few commands need

        return min(4 * self.decoders, MOST_UPLOADS)

    @classmethod
    def load(cls) -> Self:
        """The settings that environment and files describe. Raises: SettingsError, with all mistakes."""
        files = find_env_files()
        if unread := [file for file in files if file.problem and INSTEAD in os.environ]:
            raise SettingsError(f"{INSTEAD}: {unread[0].path} cannot be read ({unread[0].problem})")
        if lacking := _hidden(files):
            raise SettingsError("\n".join(lacking))
        export_aws(files)
        export_otel(files)
        given = {name.upper(): value for name, value in os.environ.items()}
        named = ChainMap(given, *(dict(file.variables) for file in reversed(files)))
        values = {field: named[name] for field in cls.model_fields if (name := variable(field)) in named}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError("\n".join(_errors(error, files))) from error


def _hidden(files: Sequence[EnvFile]) -> Sequence[str]:
    """Files that cannot be read where nothing outdoes what they may say of Redis, storage and catalog.

    A unit's EnvironmentFile= may be for root only: systemd reads it, and gives its variables.
    """
    given = {name.upper() for name in os.environ}
    lines = []
    for file in reversed(files):
        if file.problem and (lacks := [name for name in _WHERE if name not in given]):
            lines.append(
                f"{file.path} cannot be read ({file.problem}), and nothing else sets {', '.join(lacks)}. "
                f"Let the user {os.geteuid()} read it, or set them in the environment."
            )
        given |= file.variables.keys()
    return lines


def variable(field: str) -> str:
    return PREFIX + field.upper()


def unknown_variables() -> Mapping[str, str | None]:
    """Variables that are named like settings and are none, each with the nearest that is one."""
    known = [name.upper() for name in Settings.model_fields]
    names = {*os.environ, *(name for file in find_env_files() for name in file.variables)}
    given = sorted(
        name for name in names if name.upper().startswith(PREFIX) and name.upper() not in _OF_OTHERS
    )
    rests = {name: name.upper().removeprefix(PREFIX) for name in given}
    nearest = {name: get_close_matches(rest, known, 1) for name, rest in rests.items() if rest not in known}
    return {name: PREFIX + close[0] if close else None for name, close in nearest.items()}


def _errors(error: ValidationError, files: Sequence[EnvFile]) -> Sequence[str]:
    return [
        f"{_origin(variable(str(mistake['loc'][0])), files)}: {mistake['msg'].removeprefix('Value error, ')}"
        # Any part of a wrong URL of a server may be a password; files are named already.
        + (
            ""
            if mistake["loc"][0] in (*_SECRET, "recipes", "webhook_endpoints")
            else f" (it is {_shown(mistake['input'])!r})"
        )
        for mistake in error.errors(include_url=False)
    ]


def _shown(value: object) -> object:
    """The value that was given, without what may be a password, should it be somebody's URL."""
    if not isinstance(value, str):
        return value
    without_user = re.sub(r"^(.*?//)?.*@", r"\1…@", value, flags=re.DOTALL)
    return re.sub(r"(\?|password).*", r"\1…", without_user, flags=re.DOTALL)


def _origin(name: str, files: Sequence[EnvFile]) -> str:
    """A variable's name, with the file that sets it unless the environment does."""
    of_files = (f"{name} in {file.path}" for file in reversed(files) if name in file.variables)
    return name if name in map(str.upper, os.environ) else next(of_files, name)
