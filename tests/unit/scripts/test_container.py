"""The image and the compose file, as far as they can be checked without a container engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import media_worker
from scripts import redis_server
from storage.blobs.s3_place import parse_s3
from storage.catalog.address import Address
from tests.support.clients import find_uv
from tests.support.namesakes import make_namesakes
from worker.settings import Settings

ROOT = Path(__file__).parents[3]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of keyword and rest, without comments, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in lines if line)]


def stage(name: str) -> list[tuple[str, str]]:
    steps = instructions()
    second = max(number for number, (keyword, _) in enumerate(steps) if keyword == "FROM")
    return steps[:second] if name == "build" else steps[second:]


def environment(steps: list[tuple[str, str]]) -> dict[str, str]:
    words = [word for keyword, rest in steps if keyword == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def copied() -> list[str]:
    """What the build stage takes from this folder."""
    return [word for keyword, rest in stage("build") if keyword == "COPY" for word in rest.split()[:-1]]


COMPOSE = ("compose.yaml", "compose.many-hosts.yaml")
each_compose = pytest.mark.parametrize("file", COMPOSE)


def images(file: str) -> list[Any]:
    """The services whose images others have made."""
    return [service for service in compose(file)["services"].values() if "build" not in service]


def compose(file: str = COMPOSE[0]) -> Any:
    return yaml.safe_load((ROOT / file).read_text())


def options(command: list[str]) -> dict[str, str]:
    return dict(zip(command[::2], command[1::2], strict=True))


@pytest.fixture
def uv() -> str:
    found = find_uv()
    if found is None:
        pytest.skip("uv is neither on the PATH nor in .tools")
    return found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A folder that holds what the build stage copies, and nothing else."""
    for name in copied():
        source, target = ROOT / name, tmp_path / "app" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    return tmp_path / "app"


def test_the_steps_that_install_the_image_install_a_working_media(uv: str, context: Path) -> None:
    steps = [rest for keyword, rest in stage("build") if keyword == "RUN" and rest.startswith("uv ")]
    variables = {**os.environ, **environment(stage("build")), "UV_PROJECT_ENVIRONMENT": ".venv"}
    variables |= {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "hardlink", "UV_PYTHON": sys.executable}
    for step in steps:
        done = subprocess.run([uv, *shlex.split(step)[1:]], cwd=context, env=variables, capture_output=True)
        if done.returncode and "CI" not in os.environ:
            pytest.skip(f"no package index within reach: {done.stderr.decode()[-200:]}")
        assert done.returncode == 0, done.stderr.decode()

    for name in media_worker.PACKAGES:
        shutil.rmtree(context / name)
    (context / "media_worker.py").unlink()
    env = {**make_namesakes(context), "MEDIA_REDIS_URL": "redis://127.0.0.1:1/0"}
    doctor = subprocess.run(
        [".venv/bin/media", "doctor", "--json"], cwd=context, env=env, capture_output=True
    )
    levels = {finding["what"]: finding["level"] for finding in json.loads(doctor.stdout)}
    assert levels["Decoders"] == "ok"
    version = subprocess.check_output([".venv/bin/media", "--version"], cwd=context, env=env, text=True)
    assert version == "0.1.dev0\n"  # the context has no git
    [pictures] = context.glob(".venv/lib/python*/site-packages/scripts/pictures")
    assert len(list(pictures.glob("*.jpg"))) == 3


def test_the_context_of_the_image_is_what_it_copies_and_nothing_else() -> None:
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)

    assert "\n*\n" in (ROOT / ".dockerignore").read_text()
    assert sorted(allowed) == sorted(copied())


def test_files_and_catalog_of_the_image_lie_on_the_volume_that_compose_mounts() -> None:
    settings = Settings.model_validate(
        {name.removeprefix("MEDIA_").lower(): value for name, value in environment(stage("run")).items()}
    )
    [volume] = [Path(rest) for keyword, rest in stage("run") if keyword == "VOLUME"]

    assert settings.storage_root.parent == settings.catalog_path.parent == volume
    assert compose()["services"]["worker"]["volumes"] == [f"media:{volume}"]


@each_compose
def test_every_setting_of_the_containers_is_one_that_the_worker_knows(file: str) -> None:
    given = {**environment(stage("run")), **compose(file)["services"]["worker"]["environment"]}
    known = {f"MEDIA_{name.upper()}" for name in Settings.model_fields}

    assert {name for name in given if name.startswith("MEDIA_")} <= known


@each_compose
def test_compose_gives_the_worker_more_time_to_stop_than_it_takes(file: str) -> None:
    grace = compose(file)["services"]["worker"]["stop_grace_period"]

    assert int(grace.removesuffix("s")) > Settings.model_fields["shutdown_wait"].default + 7


@each_compose
def test_compose_runs_redis_with_the_options_that_the_tests_and_the_demo_use(file: str) -> None:
    executable, *command = compose(file)["services"]["redis"]["command"]

    assert executable == "redis-server"
    assert redis_server.OPTIONS.items() <= options(command).items()


def test_the_image_runs_without_root_and_reports_whether_its_worker_lives() -> None:
    run = dict(stage("run"))
    user, check = run["USER"].partition(":")[0], run["HEALTHCHECK"].partition("CMD ")[2]

    assert user not in ("", "0", "root")
    assert json.loads(check) == ["media", "health", "--live"]
    assert environment(stage("run"))["MEDIA_METRICS"] == f"0.0.0.0:{run['EXPOSE']}"


@each_compose
def test_compose_asks_the_worker_whether_work_gets_done(file: str) -> None:
    worker = compose(file)["services"]["worker"]

    assert worker["healthcheck"]["test"] == ["CMD", "media", "health"]
    assert "MEDIA_METRICS" not in worker["environment"]  # as the image says


@each_compose
def test_no_container_gains_a_right_writes_beside_its_volumes_or_listens_to_other_hosts(file: str) -> None:
    for service in compose(file)["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["read_only"] is True
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@each_compose
def test_no_service_runs_as_root_who_has_no_right_to_the_files_of_others_there(file: str) -> None:
    assert {service.get("user", "root") for service in images(file)} & {"root", "0"} == set()


@each_compose
def test_a_server_is_healthy_only_once_it_answers_by_the_network(file: str) -> None:
    """While the image of Postgres makes its database, a server answers on the socket that will be stopped."""
    for service in images(file):
        command = " ".join(service["healthcheck"]["test"])
        assert command.startswith("CMD redis-cli") or "127.0.0.1" in command


@each_compose
def test_the_worker_is_limited_to_its_budget_and_can_be_reached_by_nobody(file: str) -> None:
    worker = compose(file)["services"]["worker"]
    limits = worker["deploy"]["resources"]["limits"]

    assert limits["memory"] == f"{Settings.model_fields['memory_mb'].default}M"
    assert float(limits["cpus"]) >= 1
    assert "ports" not in worker


def test_many_hosts_differ_from_one_in_where_catalog_and_blobs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "given")
    one, many = (compose(file)["services"]["worker"] for file in COMPOSE)
    given = {name: value.replace("${POSTGRES_PASSWORD}", "x") for name, value in many["environment"].items()}

    assert {"MEDIA_CATALOG_URL", "MEDIA_STORAGE_URL"} <= given.keys() - one["environment"].keys()
    settings = Settings.model_validate(
        {name.removeprefix("MEDIA_").lower(): value for name, value in given.items()}
    )
    assert parse_s3(settings.storage_url).bucket == "media"
    assert not Address.of(settings.catalog_url).is_file
    assert "volumes" not in many
    assert many["deploy"]["replicas"] == 2
