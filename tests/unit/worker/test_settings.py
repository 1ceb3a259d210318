"""Settings: what an operator can say, and how mistakes are reported, all at once and without secrets."""

import importlib.util
import os
import resource
import traceback
from pathlib import Path

import pytest

from pipelines import cgroups, formats
from pipelines.formats import MIB
from storage.blobs.s3_place import S3Place, parse_s3
from storage.catalog.address import Address
from worker.decoders import allowance
from worker.findings import inspect_memory
from worker.limits import available_cpus, usual_confinement
from worker.settings import Settings, SettingsError, unknown_variables, variable

KEY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MEDIA_")]:
        monkeypatch.delenv(name)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in KEY:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("MEDIA_ENV_FILE", "")


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


DEFAULTS: dict[str, object] = {
    "MEDIA_REDIS_URL": "redis://127.0.0.1:6379/0",
    "MEDIA_S3_ENDPOINT": "",
    "MEDIA_S3_ADDRESSING": "auto",
    "MEDIA_STORAGE_URL": "file:./var/media",
    "MEDIA_CATALOG_URL": "sqlite+aiosqlite:///./var/catalog.db",
    "MEDIA_CATALOG_READ_URL": "",
    "MEDIA_CATALOG_POOL": 4,
    "MEDIA_CATALOG_POOLER": False,
    "MEDIA_STREAM": "media:uploads",
    "MEDIA_STREAMS": "",
    "MEDIA_MAX_SOURCE_BYTES": 10_485_760,
    "MEDIA_MAX_PIXELS": 100_000_000,
    "MEDIA_MEMORY_MB": 512,
    "MEDIA_CPUS": available_cpus(),
    "MEDIA_BATCH_SIZE": 50,
    "MEDIA_IMAGE_TIMEOUT": 20,
    "MEDIA_MAX_ATTEMPTS": 8,
    "MEDIA_LEASE": 15,
    "MEDIA_RECONCILE_INTERVAL": 15,
    "MEDIA_SETTLE": 10,
    "MEDIA_SHUTDOWN_WAIT": 25,
    "MEDIA_DAMAGED": "reject",
    "MEDIA_CONFINEMENT": usual_confinement(),
    "MEDIA_ISOLATION": "owner",
    "MEDIA_FORMATS": tuple(known.name for known in formats.FORMATS),
    "MEDIA_RECIPES": None,
    "MEDIA_ADOPT": "enqueue",
    "MEDIA_GRACE": 86_400,
    "MEDIA_RETENTION": 604_800,
    "MEDIA_DELETE_ORIGINALS": False,
    "MEDIA_SWEEP_CRON": "0 3 * * *",
    "MEDIA_SWEEP_APPLY": False,
    "MEDIA_BACKUP": "",
    "MEDIA_BACKUP_CRON": "30 * * * *",
    "MEDIA_BACKUP_KEEP": "24h,14d",
    "MEDIA_EVENTS": "media:events",
    "MEDIA_STARTED": False,
    "MEDIA_EVENTS_MAXLEN": 100_000,
    "MEDIA_CONSOLE": "on",
    "MEDIA_CONSOLE_USER_HEADER": "",
    "MEDIA_CONSOLE_USER_SCOPE": "operate",
    "MEDIA_ENVIRONMENT": "",
    "MEDIA_TRACES": "off",
    "MEDIA_HTTP_BIND": "127.0.0.1:8080",
    "MEDIA_HTTP_URL": "",
    "MEDIA_HTTP_SECRET": "",
    "MEDIA_HTTP_FILES": "public",
    "MEDIA_HTTP_SEND": "direct",
    "MEDIA_HTTP_ORIGINS": (),
    "MEDIA_HTTP_RATE": 0,
    "MEDIA_HTTP_UPLOADS": 20,
    "MEDIA_HTTP_STREAMS": 500,
    "MEDIA_HTTP_CONNECTIONS": 2000,
    "MEDIA_HTTP_PROXIES": (),
    "MEDIA_METRICS": "",
    "MEDIA_SLOW_MS": 100,
    "MEDIA_LOG": "auto",
    "MEDIA_WEBHOOK_URL": "",
    "MEDIA_WEBHOOK_SECRET": "",
    "MEDIA_WEBHOOK_ENDPOINTS": None,
    "MEDIA_WEBHOOK_ALLOW_PRIVATE": False,
    "MEDIA_WEBHOOK_TIMEOUT": 15,
}


@pytest.mark.parametrize("field", Settings.model_fields)
def test_a_setting_that_nobody_made_has_the_documented_default(field: str) -> None:
    assert getattr(Settings.load(), field) == DEFAULTS[variable(field)]


def test_a_setting_is_what_its_variable_says(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_BATCH_SIZE", "7")
    env.setenv("MEDIA_DELETE_ORIGINALS", "1")
    env.setenv("MEDIA_FORMATS", "jpeg, png")
    env.setenv("MEDIA_IMAGE_TIMEOUT", "0.5")
    loaded = Settings.load()

    assert (loaded.batch_size, loaded.delete_originals, loaded.image_timeout) == (7, True, 0.5)
    assert loaded.formats == ("jpeg", "png")


def test_other_programs_variables_are_none_of_ours(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_PLAYER", "vlc")
    env.setenv("BATCH_SIZE", "9")

    assert Settings.load().batch_size == 50


def test_paths_are_those_that_the_urls_name(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.chdir(tmp_path)
    env.setenv("MEDIA_STORAGE_URL", "file:/srv/media")
    loaded = Settings.load()

    assert loaded.storage_root == Path("/srv/media")
    assert loaded.catalog_path == tmp_path / "var/catalog.db"


def test_the_storage_is_a_bucket_at_the_endpoint_that_the_settings_name(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_S3_ENDPOINT", "https://s3.example.org:9000/")
    env.setenv("MEDIA_S3_ADDRESSING", "path")
    env.setenv("MEDIA_STORAGE_URL", "s3://photos/of our/site")
    loaded = Settings.load()

    assert loaded.storage == "s3://photos/of our/site"
    assert parse_s3(loaded.storage_url) == S3Place(
        "photos", "of our/site", "https://s3.example.org:9000", "path"
    )


def test_a_url_of_a_bucket_may_name_an_endpoint_of_its_own(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_S3_ENDPOINT", "https://s3.example.org")
    env.setenv("MEDIA_STORAGE_URL", "s3://photos?endpoint=http://127.0.0.1:8333&addressing=path")

    assert parse_s3(Settings.load().storage_url) == S3Place("photos", "", "http://127.0.0.1:8333", "path")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_a_bucket_is_where_the_variables_of_aws_say_if_nothing_else_does(
    env: pytest.MonkeyPatch, name: str
) -> None:
    env.setenv("AWS_ENDPOINT_URL", "https://all.example.org")
    env.setenv(name, "http://127.0.0.1:8333/")
    env.setenv("MEDIA_STORAGE_URL", "s3://photos/site")
    env.setenv("MEDIA_S3_ENDPOINT", "")
    alone = Settings.load()
    env.setenv("MEDIA_S3_ENDPOINT", "https://s3.example.org")
    ours = Settings.load()

    assert parse_s3(alone.storage_url) == S3Place("photos", "site", "http://127.0.0.1:8333")
    assert parse_s3(ours.storage_url) == S3Place("photos", "site", "https://s3.example.org")


def test_a_catalog_s_url_may_have_the_scheme_that_providers_write(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_CATALOG_URL", "postgres://media:x@db/media")

    assert Settings.load().catalog.dsn == "postgresql://media:x@db/media"


@pytest.mark.parametrize(
    ("url", "extra"), [("s3://photos", "s3"), ("postgresql://media@db/media", "postgres")]
)
def test_an_extra_that_is_not_installed_is_named_with_how_to_install_it(
    env: pytest.MonkeyPatch, url: str, extra: str
) -> None:
    env.setenv("MEDIA_STORAGE_URL" if extra == "s3" else "MEDIA_CATALOG_URL", url)
    env.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=rf"needs the extra {extra}, .*uv tool install '\.\[{extra}\]'"):
        Settings.load()


def test_an_endpoint_of_aws_that_is_none_is_named(env: pytest.MonkeyPatch) -> None:
    env.setenv("AWS_ENDPOINT_URL", "127.0.0.1:8333")
    env.setenv("MEDIA_STORAGE_URL", "s3://photos")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL, which must be http://HOST"):
        Settings.load()


@pytest.mark.parametrize(("given", "lacks"), [KEY, KEY[::-1]])
def test_half_a_key_of_a_bucket_is_refused_by_the_name_of_the_other(
    env: pytest.MonkeyPatch, given: str, lacks: str
) -> None:
    env.delenv(lacks)
    env.setenv("MEDIA_STORAGE_URL", "s3://photos")
    with pytest.raises(SettingsError, match=f"needs {lacks} beside {given}, which is set"):
        Settings.load()


def test_a_bucket_that_is_not_amazons_takes_a_key_or_what_stands_for_one(env: pytest.MonkeyPatch) -> None:
    for name in KEY:
        env.delenv(name)
    env.setenv("MEDIA_STORAGE_URL", "s3://photos")
    assert Settings.load().storage == "s3://photos"  # the host may have a role
    env.setenv("MEDIA_S3_ENDPOINT", "https://s3.eu-1.amazonaws.com")
    assert Settings.load().storage == "s3://photos"
    env.setenv("MEDIA_S3_ENDPOINT", "http://127.0.0.1:8333")
    with pytest.raises(SettingsError, match="there are none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACC"):
        Settings.load()
    env.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
    assert Settings.load().storage == "s3://photos"


def test_all_mistakes_are_reported_at_once_each_by_its_variable(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_BATCH_SIZE", "many")
    env.setenv("MEDIA_LEASE", "0")
    env.setenv("MEDIA_DAMAGED", "maybe")
    with pytest.raises(SettingsError) as refused:
        Settings.load()

    lines = sorted(str(refused.value).splitlines())
    assert [line.split(":")[0] for line in lines] == ["MEDIA_BATCH_SIZE", "MEDIA_DAMAGED", "MEDIA_LEASE"]
    assert "(it is 'many')" in lines[0]


MISTAKES = [
    (
        "MEDIA_REDIS_URL",
        "http://localhost",
        "must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://",
    ),
    ("MEDIA_BACKUP", "var/media/backup", "lies inside the storage"),
    ("MEDIA_BACKUP", "./var/catalog.db", "is the catalog: choose a folder"),
    ("MEDIA_BACKUP", "/etc/passwd", "cannot be used: /etc/passwd is a file: choose a folder"),
    ("MEDIA_BACKUP", "/etc/passwd/copies/new", "cannot be used: /etc/passwd is a file"),
    ("MEDIA_BACKUP", "/dev/null", "cannot be used: /dev/null is a file"),
    ("MEDIA_BACKUP_CRON", "hourly", "must be five fields"),
    ("MEDIA_BACKUP_KEEP", "24", "must be a number of hourly and of daily copies, as in 24h,14d"),
    ("MEDIA_REDIS_URL", "redis+cluster://localhost", "must begin with redis://"),
    ("MEDIA_REDIS_URL", "redis+sentinel://a,b:26379", "has no name of a primary after the hosts"),
    ("MEDIA_REDIS_URL", "redis+sentinel://a,b:x/media", "has a port that is not a number"),
    ("MEDIA_REDIS_URL", "redis+sentinel://a,/media", "has no host"),
    ("MEDIA_REDIS_URL", "redis+sentinel://a/media/x", "has a database that is not a number"),
    ("MEDIA_REDIS_URL", "redis://localhost:abc/0", "a port that is not a number"),
    ("MEDIA_REDIS_URL", "redis://localhost/main", "a database that is not a number"),
    ("MEDIA_REDIS_URL", "unix://", "has no host"),
    ("MEDIA_STREAM", "media:events", "must differ from MEDIA_EVENTS"),
    ("MEDIA_EVENTS", "", "at least 1 character"),
    ("MEDIA_STORAGE_URL", "s3://", "must be s3://BUCKET or s3://BUCKET/PREFIX"),
    ("MEDIA_STORAGE_URL", "s3://bucket?region=x", "not region="),
    ("MEDIA_STORAGE_URL", "s3://bucket/a/../b", "a prefix that cannot be one"),
    ("MEDIA_S3_ENDPOINT", "localhost:9000", "must be http://HOST[:PORT]"),
    ("MEDIA_STORAGE_URL", "/srv/media", "must be file:PATH"),
    ("MEDIA_STORAGE_URL", "file:", "must be file:PATH"),
    (
        "MEDIA_CATALOG_URL",
        "postgresql+asyncpg://db",
        "must be postgresql+asyncpg://USER:PASSWORD@HOST/DATABASE",
    ),
    ("MEDIA_CATALOG_URL", "postgresql:///media", "names no host"),
    ("MEDIA_CATALOG_URL", "postgresql://db/media?target_session_attr=any", "not target_session_attr"),
    *(
        ("MEDIA_CATALOG_URL", f"postgresql://{place}", "a number from 1 to 65535 as the port of each host")
        for place in ("db:abc/m", "db:99999/m", "db:0/m", "db,two:x/m", "[::1]:x/m", "/m?host=db&port=x")
    ),
    ("MEDIA_CATALOG_URL", "postgresql://db/m?sslmode=wrong", "sslmode=disable or allow"),
    ("MEDIA_CATALOG_URL", "postgresql://db/m?target_session_attrs=standby", "=any or primary or read-write"),
    ("MEDIA_CATALOG_URL", "postgresql://db/m?ssl_min_protocol_version=1.2", "=TLSv1 or TLSv1.1"),
    *(
        (
            "MEDIA_CATALOG_URL",
            f"postgresql://db/m?{option}=/nowhere",
            f"as {option}, which cannot be read: No such",
        )
        for option in ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
    ),
    (
        "MEDIA_CATALOG_URL",
        f"postgresql://db/m?sslrootcert={__file__}",
        "as sslrootcert, which is no such file",
    ),
    (
        "MEDIA_CATALOG_URL",
        f"postgresql://db/m?sslcert={__file__}&sslkey={__file__}",
        "as sslcert, which is no such file",
    ),
    ("MEDIA_CATALOG_URL", "postgresql+psycopg://db/media", "must be sqlite+aiosqlite:///PATH or postgresql"),
    ("MEDIA_CATALOG_READ_URL", "postgresql://db", "must be postgresql+asyncpg://USER"),
    ("MEDIA_CATALOG_READ_URL", "sqlite+aiosqlite:///copy.db", "which only a catalog on Postgres has"),
    ("MEDIA_CATALOG_READ_URL", "postgresql://db/media", "which only a catalog on Postgres has"),
    ("MEDIA_CATALOG_POOL", "0", "greater than or equal to 1"),
    ("MEDIA_CATALOG_URL", "sqlite:///catalog.db", "must be sqlite+aiosqlite:///PATH"),
    ("MEDIA_CATALOG_URL", "sqlite+aiosqlite:///:memory:", "must be sqlite+aiosqlite:///PATH"),
    ("MEDIA_FORMATS", "jpeg,jpg", "not jpg"),
    ("MEDIA_FORMATS", "", "not nothing"),
    ("MEDIA_MEMORY_MB", "100", "greater than or equal to 192"),
    ("MEDIA_CPUS", "0", "greater than or equal to 1"),
    ("MEDIA_STREAM", "", "at least 1 character"),
    ("MEDIA_LOG", "xml", "'auto', 'console' or 'json'"),
    ("MEDIA_DELETE_ORIGINALS", "perhaps", "boolean"),
    ("MEDIA_SWEEP_CRON", "nightly", "five fields"),
    ("MEDIA_RECIPES", "/no/such/recipes.toml", "recipes.toml"),
]


@pytest.mark.parametrize(("name", "value", "expected"), MISTAKES)
def test_a_mistake_is_reported_with_its_variable_and_a_reason(
    env: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    env.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()

    [line] = str(refused.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert expected in line


def test_a_replica_of_a_catalog_on_postgres_is_any_of_its_servers(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_CATALOG_URL", "postgresql://media@db/media")
    assert Settings.load().catalog_read is None

    env.setenv("MEDIA_CATALOG_READ_URL", "postgres://media@one,two/media")
    found = Settings.load().catalog_read
    assert found == Address("postgresql://media@one,two/media", is_replica=True)


def test_all_mistakes_of_a_recipe_file_stand_below_its_name(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[a.b]\nbox = 0\neffort = 'tiny'\n")
    env.setenv("MEDIA_RECIPES", f"{tmp_path}/r.toml")
    with pytest.raises(SettingsError) as refused:
        Settings.load()

    assert str(refused.value).splitlines() == [
        f"MEDIA_RECIPES: {tmp_path}/r.toml has 2 mistakes:",
        "  a.b.box is at least 1, not 0",
        "  a.b.effort is 'fast' or 'small', not 'tiny'",
    ]


def test_an_empty_name_of_a_recipe_file_is_none(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_RECIPES", "")

    assert Settings.load().recipes is None


@pytest.mark.parametrize(
    "name",
    ["MEDIA_REDIS_URL", "MEDIA_STORAGE_URL", "MEDIA_CATALOG_URL", "MEDIA_CATALOG_READ_URL", "MEDIA_CPUS"],
)
@pytest.mark.parametrize(
    "value",
    [
        "http://user:hunter2@localhost",
        "postgresql+asyncpg://user:hun/ter@hunter2@db/media",
        "s3://key:hunter2@bucket/prefix",
        "user:hunter2@localhost",
        "mysql://localhost/media?user=u&password=hunter2",
        "postgresql:db/media?password=hunter2",
        "postgresql:/db/media?sslpassword=a//b?hunter2",
        "postgresql:db/media?password=\nhunter2",
        "host=db user=media password=hunter2",
    ],
)
def test_a_password_is_not_reported_with_the_mistake(env: pytest.MonkeyPatch, name: str, value: str) -> None:
    env.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()

    answer = "".join(traceback.format_exception(refused.value))
    assert name in str(refused.value)
    assert "hunter2" not in answer
    assert "ter@" not in answer


def test_a_password_is_not_in_what_settings_look_like(env: pytest.MonkeyPatch) -> None:
    env.setenv("MEDIA_REDIS_URL", "redis://user:hunter2@localhost")
    env.setenv("MEDIA_CATALOG_URL", "postgresql://media:hunter2@db,db2:5433/media?sslpassword=hunter2")
    loaded = Settings.load()

    assert "hunter2" in loaded.redis_url
    assert "hunter2" in loaded.catalog.dsn
    assert loaded.catalog_name == "postgresql://media@db,db2:5433/media"
    assert "hunter2" not in f"{loaded} {loaded!r} {loaded.catalog} {loaded.catalog!r}"


@pytest.mark.parametrize(
    ("memory", "cpus", "expected"), [(512, 1, 1), (512, 4, 4), (512, 64, 4), (192, 8, 1), (2048, 64, 20)]
)
def test_decoders_are_one_a_cpu_as_far_as_the_memory_goes(
    env: pytest.MonkeyPatch, memory: int, cpus: int, expected: int
) -> None:
    env.setenv("MEDIA_MEMORY_MB", str(memory))
    env.setenv("MEDIA_CPUS", str(cpus))

    assert Settings.load().decoders == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 2), (1.0, 1), (1.5, 1), (0.5, 1), (9.0, 2)])
def test_the_cpus_are_those_of_the_container(
    env: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    env.setattr(cgroups, "cpu_quota", lambda: quota)
    env.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})

    assert available_cpus() == expected


@pytest.mark.parametrize(
    ("limit_mb", "budget", "decoders"), [(None, 512, 4), (4096, 512, 4), (512, 512, 4), (300, 300, 2)]
)
def test_the_budget_is_the_containers_limit_where_that_is_less(
    env: pytest.MonkeyPatch, limit_mb: int | None, budget: int, decoders: int
) -> None:
    env.setattr(cgroups, "memory_limit", lambda: limit_mb and limit_mb * MIB)
    env.setenv("MEDIA_CPUS", "8")
    settings = Settings.load()

    assert (settings.budget_mb, settings.decoders) == (budget, decoders)


@pytest.mark.parametrize("what", [resource.RLIMIT_AS, resource.RLIMIT_DATA], ids=["AS", "DATA"])
def test_the_budget_is_what_a_process_may_have_where_that_is_less(env: pytest.MonkeyPatch, what: int) -> None:
    env.setattr(cgroups, "memory_limit", lambda: None)
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (8000 * MIB, hard))
    try:
        settings = Settings(memory_mb=16_000)
        answer = inspect_memory(settings)
    finally:
        resource.setrlimit(what, (soft, hard))

    assert settings.budget_mb == 8000
    assert answer.detail.startswith("8000 MiB, the limit of a process (LimitAS, LimitDATA")
    assert answer.advice is not None
    assert answer.advice.endswith("-v, -d) to 16000 MiB, or set MEDIA_MEMORY_MB=8000.")


def test_settings_cannot_be_changed_afterwards() -> None:
    loaded = Settings.load()

    with pytest.raises(ValueError, match="frozen"):
        loaded.batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("MEDIA_GRACES", "MEDIA_GRACE"),
        ("MEDIA_REDIS_URI", "MEDIA_REDIS_URL"),
        ("media_leese", "MEDIA_LEASE"),
        ("MEDIA_XYZZY", None),
    ],
)
def test_a_variable_that_is_no_setting_is_reported_with_the_nearest_one(
    env: pytest.MonkeyPatch, given: str, nearest: str | None
) -> None:
    env.setenv(given, "1")
    env.setenv("media_cpus", "1")  # lower case will do
    env.setenv("MULTIMEDIA_GRACES", "1")  # somebody else's

    assert unknown_variables() == {given: nearest}


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("redis://h/0?ssl_ca_certs=/etc/hosts", "only rediss:// takes"),
        ("rediss://h/0?ssl_ca_cert=/etc/hosts", "the unknown option ssl_ca_cert; known"),
        ("rediss://h/0?ssl_ca_certs=/no/such/file", "/no/such/file"),
        ("rediss://h/0?ssl_cert_reqs=never", "none, optional or required"),
        ("redis://h/0?db=first", "Invalid value for 'db'"),
        ("rediss://h/0?ssl_ca_certs=/etc/hosts&ssl_cert_reqs=none", None),
        ("redis://h/0?protocol=3&decode_responses=True", None),
        ("unix:///run/redis.sock?db=3&password=x", None),
        ("redis+sentinel://:p%40@a,b:1/main/2?sentinel_username=u&sentinel_password=p", None),
        ("rediss+sentinel://a,[::1]:1,[::2]/main?ssl_ca_certs=/etc/hosts", None),
        ("redis+sentinel://a/main?ssl_ca_certs=/etc/hosts", "only rediss:// takes"),
        ("redis+sentinel://a/main?sentinel_pass=p", "the unknown option sentinel_pass"),
        ("redis://h/0?sentinel_password=p", "only redis+sentinel:// takes"),
    ],
)
def test_options_of_the_redis_url_are_known_or_a_mistake(
    env: pytest.MonkeyPatch, url: str, answer: str | None
) -> None:
    env.setenv("MEDIA_REDIS_URL", url)
    if answer is None:
        assert Settings.load().redis_url == url
        return
    with pytest.raises(SettingsError, match="MEDIA_REDIS_URL") as refused:
        Settings.load()

    assert answer in str(refused.value)


@pytest.mark.parametrize(
    "events",
    [
        "media:uploads",
        *(f"media:uploads:{rest}" for rest in ("jobs", "jobs:x", "queues", "workers", "catalog")),
        *(
            f"media:uploads:{rest}"
            for rest in ("health:x", "worker:x", "arq:x", "receipts:x", "tokens:x", "names:x")
        ),
    ],
)
def test_messages_go_to_a_key_that_holds_nothing_else(env: pytest.MonkeyPatch, events: str) -> None:
    env.setenv("MEDIA_EVENTS", events)
    with pytest.raises(SettingsError, match="MEDIA_EVENTS"):
        Settings.load()

    env.setenv("MEDIA_EVENTS", "media:uploads:events")
    assert Settings.load().events == "media:uploads:events"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MEDIA_HTTP_BIND", "8080", "must be HOST:PORT, such as 127.0.0.1:8080 or .*, or unix:PATH"),
        ("MEDIA_HTTP_BIND", f"unix:/{'x' * 120}", "more than 107 bytes"),
        ("MEDIA_HTTP_SECRET", "too short", "at least 32 bytes"),
        ("MEDIA_HTTP_FILES", "signed", "needs MEDIA_HTTP_SECRET"),
        ("MEDIA_HTTP_SEND", "accel:variants", "accel:/PREFIX/"),
        ("MEDIA_HTTP_ORIGINS", "app.example.com", "https://app.example.com"),
        ("MEDIA_HTTP_ORIGINS", "*", "https://app.example.com"),
        ("MEDIA_HTTP_URL", "media.example.com", "must be a URL"),
        ("MEDIA_HTTP_PROXIES", "10.0.0.0/8, proxy.local", "addresses, networks such as 10.0.0.0/8, and unix"),
    ],
)
def test_a_wrong_setting_of_http_is_said_with_what_is_right(
    env: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    env.setenv(name, value)

    with pytest.raises(SettingsError, match=f"{name}: .*{reason}") as refused:
        Settings.load()
    assert name != "MEDIA_HTTP_SECRET" or value not in str(refused.value)


def test_what_is_said_of_decoders_reaches_them(env: pytest.MonkeyPatch) -> None:
    said = {"ISOLATION": "picture", "CONFINEMENT": "off", "DAMAGED": "accept", "MAX_PIXELS": "5"}
    for name, value in said.items():
        env.setenv(f"MEDIA_{name}", value)
    limits = allowance(Settings.load())

    assert (limits.isolation, limits.confinement, limits.accept_damaged) == ("picture", "off", True)
    assert limits.max_pixels == 5
