"""Files of variables: found, outdone by the environment, named where they are wrong, and kept from others."""

import os
import re
from pathlib import Path

import boto3
import pytest

from storage.blobs.s3_client import sign_query
from storage.blobs.s3_place import S3Place
from tests.support.commands import forked
from worker import env_files
from worker.doctor.variables import inspect_env_file
from worker.env_files import find_env_files
from worker.settings import Settings, SettingsError, unknown_variables


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /etc/media-worker.env; the current folder is another."""
    for name in [name for name in os.environ if name.startswith("MEDIA_")]:
        monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(env_files, "PLACES", (str(tmp_path / "media-worker.env"), ".env"))
    return tmp_path / "media-worker.env"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a variable of AWS, and what is set in it is gone after the test."""
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION")
    for name in {
        *(f"AWS_{name}" for name in names),
        *(name for name in os.environ if name.startswith("AWS_")),
    }:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_the_environment_outdoes_the_folder_s_file_and_that_the_machine_s(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc.write_text("MEDIA_BATCH_SIZE=1\nMEDIA_LEASE=2\nMEDIA_GRACE=3\n")
    Path(".env").write_text("export MEDIA_LEASE='20'\nmedia_grace=30\nOTHER=1\n")
    monkeypatch.setenv("MEDIA_GRACE", "300")

    settings = Settings.load()

    assert (settings.batch_size, settings.lease, settings.grace) == (1, 20, 300)
    assert [file.path for file in find_env_files()] == [etc, Path(".env").absolute()]


def test_the_variables_of_aws_are_those_that_the_clients_of_s3_and_sqs_take(
    etc: Path, aws: pytest.MonkeyPatch
) -> None:
    etc.write_text("AWS_ACCESS_KEY_ID=other\nAWS_SESSION_TOKEN=other's\nAWS_REGION=eu-1\n")
    Path(".env").write_text("AWS_ACCESS_KEY_ID=mine\nAWS_SECRET_ACCESS_KEY=in-file\n")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "outdoes")

    Settings.load()

    found = boto3.Session().get_credentials()
    assert found is not None
    assert tuple(found.get_frozen_credentials())[:3] == ("mine", "outdoes", None)
    assert boto3.Session().region_name == "eu-1"
    signed = sign_query(S3Place("media", endpoint="http://127.0.0.1:1"), {})
    assert re.search(r"X-Amz-Credential=mine%2F\d+%2Feu-1%2F", signed)
    assert "Security-Token" not in signed


def test_the_variables_of_opentelemetry_are_those_that_its_sdk_takes(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    etc.write_text("OTEL_SERVICE_NAME=of-the-machine\nOTEL_EXPORTER_OTLP_ENDPOINT=http://there:4318\n")
    Path(".env").write_text("OTEL_SERVICE_NAME=of-the-folder\n")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://outdoes:4318")

    Settings.load()

    given = os.environ["OTEL_SERVICE_NAME"], os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert given == ("of-the-folder", "http://outdoes:4318")


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
def test_a_secret_of_others_that_everybody_may_read_is_a_warning(etc: Path, name: str) -> None:
    etc.write_text(f"{name}=x\n")
    etc.chmod(0o644)
    [file] = find_env_files()

    assert "everybody on this machine can read the password" in inspect_env_file(file).detail


def test_a_mistake_is_reported_with_the_file_that_it_is_in(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc.write_text("MEDIA_LEASE=soon\nMEDIA_CPUS=many\n")
    Path(".env").write_text("MEDIA_LEASE=later\nMEDIA_GRACE=never\n")
    monkeypatch.setenv("MEDIA_GRACE", "ever")

    with pytest.raises(SettingsError) as answer:
        Settings.load()
    lines = sorted(str(answer.value).splitlines())
    assert [line.partition(":")[0] for line in lines] == [
        f"MEDIA_CPUS in {etc}",
        "MEDIA_GRACE",
        f"MEDIA_LEASE in {Path('.env').absolute()}",
    ]


def test_one_file_may_be_named_instead_and_then_it_must_be_there(
    etc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    etc.write_text("MEDIA_LEASE=2\n")
    monkeypatch.setenv("MEDIA_ENV_FILE", str(tmp_path / "mine"))
    with pytest.raises(SettingsError, match=r"MEDIA_ENV_FILE: .*/mine cannot be read \(No such file"):
        Settings.load()

    (tmp_path / "mine").write_text("MEDIA_CPUS=3\n")
    settings = Settings.load()

    assert (settings.cpus, settings.lease) == (3, 15)
    assert unknown_variables() == {}


def test_a_virtual_environment_of_that_name_is_no_file(etc: Path) -> None:
    Path(".env").mkdir()

    assert find_env_files() == []
    Settings.load()


WHERE = {
    "MEDIA_REDIS_URL": "redis://h/0",
    "MEDIA_STORAGE_URL": "file:/srv/media",
    "MEDIA_CATALOG_URL": "sqlite+aiosqlite:////srv/catalog.db",
}


def test_an_unreadable_file_is_reported_and_ignored_where_the_environment_suffices(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc.write_bytes(b"MEDIA_LEASE=\xff\n")
    for name, value in WHERE.items():
        monkeypatch.setenv(name, value)

    [file] = find_env_files()

    assert Settings.load().lease == 15
    assert inspect_env_file(file).level == "warning"
    assert inspect_env_file(file).detail == f"{etc} cannot be read (it is not UTF-8)"


@pytest.mark.parametrize("lacking", WHERE)
@pytest.mark.parametrize("shut", ["media-worker.env", "here/.env"])
def test_nothing_starts_on_defaults_because_its_file_cannot_be_read(
    etc: Path, monkeypatch: pytest.MonkeyPatch, shut: str, lacking: str
) -> None:
    unreadable = etc.parent / shut
    unreadable.write_bytes(b"\xff")
    for name in WHERE.keys() - {lacking}:
        monkeypatch.setenv(name.lower(), WHERE[name])

    with pytest.raises(SettingsError) as refused:
        Settings.load()

    assert f"{unreadable} cannot be read (it is not UTF-8)" in str(refused.value)
    assert lacking in str(refused.value)
    assert not any(name in str(refused.value) for name in WHERE.keys() - {lacking})


def test_a_later_file_outdoes_one_that_cannot_be_read_but_no_earlier_one(
    etc: Path,
) -> None:
    etc.write_bytes(b"\xff")
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in WHERE.items()))
    assert Settings.load().redis_url == "redis://h/0"

    etc.write_bytes(Path(".env").read_bytes())
    Path(".env").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        Settings.load()


@pytest.mark.parametrize(
    ("mode", "url", "level"),
    [
        (0o644, "redis://:hunter2@h/0", "warning"),
        (0o640, "redis://:hunter2@h/0", "ok"),
        (0o644, "redis://h/0", "ok"),
    ],
)
def test_a_password_that_everybody_can_read_is_reported_but_not_shown(
    etc: Path, mode: int, url: str, level: str
) -> None:
    etc.write_text(f"MEDIA_REDIS_URL={url}\n")
    etc.chmod(mode)

    finding = inspect_env_file(find_env_files()[0])

    assert finding.level == level
    assert "hunter2" not in f"{finding.detail} {finding.advice}"


def test_what_django_calls_its_media_is_no_misspelt_setting(
    etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etc.write_text("MEDIA_ROOT=/srv/media\nMEDIA_LEASES=3\n")
    monkeypatch.setenv("MEDIA_URL", "/media/")

    assert unknown_variables() == {"MEDIA_LEASES": "MEDIA_LEASE"}


def test_a_command_says_which_file_it_reads_and_not_among_its_json(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MEDIA_LEASE=20\n")

    done = forked(["media", "stats", "--json"], {"HOME": str(tmp_path)}, tmp_path)

    assert f"Settings are read from {tmp_path}/.env" in done.stderr
    assert "Settings" not in done.stdout


@pytest.mark.parametrize(("given", "code"), [({}, 2), (WHERE, 1)])
def test_a_command_says_which_file_it_cannot_read(tmp_path: Path, given: dict[str, str], code: int) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")

    done = forked(["media", "stats"], {"MEDIA_LOG": "json", **given}, tmp_path)

    assert f"{tmp_path}/.env cannot be read (it is not UTF-8)" in done.stderr
    assert done.returncode == code
    assert not (tmp_path / "var").exists()
