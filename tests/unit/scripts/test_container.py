"""The image and the compose file, as far as they can be checked without a container engine."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

import media_worker
from scripts import redis_server
from storage.blobs.s3_place import parse_s3
from storage.catalog.address import Address
from tests.support.clients import WITH_SERVICES, find_uv
from tests.support.namesakes import make_namesakes
from tests.support.snippets import blocks
from worker.settings import Settings

ROOT = Path(__file__).parents[3]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of keyword and rest, without comments, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in lines if line)]


def stage(name: str) -> list[tuple[str, str]]:
    """The instructions of one stage; `run` is the one that is built by default."""
    stages: dict[str, list[tuple[str, str]]] = {}
    for keyword, rest in instructions():
        if keyword == "FROM":
            last = stages.setdefault(rest.rpartition(" AS ")[2], [])
        elif stages:
            last.append((keyword, rest))
    return last if name == "run" else stages[name]


def environment(steps: list[tuple[str, str]]) -> dict[str, str]:
    words = [word for keyword, rest in steps if keyword == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def copied(steps: list[tuple[str, str]]) -> list[str]:
    """What these steps take from this folder."""
    copies = [rest for keyword, rest in steps if keyword == "COPY" and not rest.startswith("--from=")]
    return [word for rest in copies for word in rest.split()[:-1]]


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
    for name in copied(stage("build")):
        source, target = ROOT / name, tmp_path / "app" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return tmp_path / "app"


@WITH_SERVICES
def test_the_steps_that_install_the_image_install_a_working_media(uv: str, context: Path) -> None:
    project = str(context / "project")
    variables = {
        **os.environ,
        **environment(stage("build")),
        "UV_PROJECT_ENVIRONMENT": ".venv",
        "VERSION": "",
    }
    variables |= {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "hardlink", "UV_PYTHON": sys.executable}
    variables["PATH"] = f"{Path(uv).parent}:{variables['PATH']}"
    for step in [rest for keyword, rest in stage("build") if keyword == "RUN" and "uv " in rest]:
        command = step.replace("/project", project)
        done = subprocess.run(["sh", "-euc", command], cwd=context, env=variables, capture_output=True)
        if done.returncode and "CI" not in os.environ:
            pytest.skip(f"no package index within reach: {done.stderr.decode()[-200:]}")
        assert done.returncode == 0, done.stderr.decode()
    shutil.copytree(project, context / ".venv", dirs_exist_ok=True)

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


@WITH_SERVICES
def test_everything_that_the_image_leaves_out_of_its_packages_is_there_and_is_not_imported() -> None:
    packages = Path(sysconfig.get_path("purelib"))
    unused = list(runpy.run_path(str(ROOT / "deploy/image/prune.py"))["unused"](packages))
    modules = (
        "scripts.doctor, scripts.worker, scripts.demo, worker.main, worker.sqs, pipelines.decoder.session"
    )
    shown = (
        "import sys; print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)))"
    )

    imported = subprocess.check_output(
        [sys.executable, "-c", f"import {modules}; {shown}"], text=True, cwd=ROOT
    )

    assert [path for path in unused if not path.exists()] == []
    assert {Path(file) for file in imported.split()} & set(unused) == set()
    assert not [file for file in imported.split() if set(Path(file).parents) & set(unused)]


def test_the_context_of_the_image_is_what_it_copies_and_nothing_else() -> None:
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)

    assert "\n*\n" in (ROOT / ".dockerignore").read_text()
    used = [name if name.count("/") == 0 else str(Path(name).parent) for name in copied(instructions())]
    assert sorted(allowed) == sorted(set(used))


def test_the_base_is_pinned_by_its_digest_in_one_place() -> None:
    arguments = dict(
        rest.split("=", 1) for keyword, rest in instructions() if keyword == "ARG" and "=" in rest
    )
    bases = [rest.split()[0] for keyword, rest in instructions() if keyword == "FROM"]

    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", arguments["BASE"])
    assert set(bases) == {"${BASE}", "build", "scratch"}


def test_nothing_is_installed_in_the_image_or_by_make_without_its_hash() -> None:
    pinned = "--require-hashes --only-binary :all: --requirement"
    lines = (ROOT / "deploy/image/requirements.txt").read_text().replace("\\\n", "").splitlines()
    [line] = [line for line in lines if not line.startswith("#")]
    name, *hashes = line.split()

    assert re.fullmatch(r"uv==\d+\.\d+\.\d+", name)
    assert len(hashes) > 10  # a wheel for each machine
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes)
    assert f"{pinned} /requirements.txt" in (ROOT / "Dockerfile").read_text()
    assert f"{pinned} deploy/image/requirements.txt" in (ROOT / "scripts/setup").read_text()
    assert "uv>=" not in (ROOT / "scripts/setup").read_text()


@each_compose
def test_every_image_of_others_has_its_full_version_and_its_digest(file: str) -> None:
    for service in images(file):
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-alpine)?@sha256:[0-9a-f]{64}", service["image"])


def test_renovate_keeps_digests_floors_and_the_lock_up_to_date() -> None:
    rules = json.loads((ROOT / "renovate.json").read_text())
    [decoders] = [rule for rule in rules["packageRules"] if rule.get("groupName") == "decoders"]

    assert "docker:pinDigests" in rules["extends"]
    assert rules["rangeStrategy"] == "bump"
    assert rules["lockFileMaintenance"]["enabled"] is True
    assert rules["osvVulnerabilityAlerts"] is True
    assert decoders["minimumReleaseAge"] is None


def test_dependencies_and_project_are_layers_of_their_own_in_both_images() -> None:
    for target in ("minimal", "run"):
        copies = [rest for keyword, rest in stage(target) if keyword == "COPY"]

        assert copies[-2:] == ["--from=build /app/.venv /app/.venv", "--from=build /project /app/.venv"]


def test_the_image_without_shell_is_configured_as_the_other_one() -> None:
    """What runs, as whom, where and for how long; each says for itself where programs and authorities are."""
    small, usual = (
        [step for step in stage(target) if step[0] not in ("COPY", "RUN", "ENV")]
        for target in ("minimal", "run")
    )
    of_small, of_usual = environment(stage("minimal")), environment(stage("run"))

    assert small == usual
    assert {**of_small, "PATH": ""} == {**of_usual, "PATH": "", "SSL_CERT_FILE": of_small["SSL_CERT_FILE"]}


def test_files_and_catalog_of_the_image_lie_on_the_volume_that_compose_mounts() -> None:
    settings = Settings.model_validate(
        {name.removeprefix("MEDIA_").lower(): value for name, value in environment(stage("run")).items()}
    )
    [volume] = [Path(rest) for keyword, rest in stage("run") if keyword == "VOLUME"]

    assert settings.storage_root.parent == settings.catalog_path.parent == volume
    assert compose()["services"]["worker"]["volumes"] == [f"media:{volume}"]


@each_compose
def test_every_setting_of_the_containers_is_one_that_the_worker_knows(file: str) -> None:
    services = compose(file)["services"]
    given = environment(stage("run")) | services["worker"]["environment"] | services["serve"]["environment"]
    known = {f"MEDIA_{name.upper()}" for name in Settings.model_fields}

    assert {name for name in given if name.startswith("MEDIA_")} <= known


@each_compose
def test_compose_gives_the_worker_more_time_to_stop_than_it_takes(file: str) -> None:
    grace = compose(file)["services"]["worker"]["stop_grace_period"]

    assert int(grace.removesuffix("s")) > Settings.model_fields["shutdown_wait"].default + 7


@each_compose
def test_the_server_has_its_own_small_limits_its_time_to_stop_and_tells_whether_it_works(file: str) -> None:
    services = compose(file)["services"]
    serve = services["serve"]

    assert serve["deploy"]["resources"]["limits"] == {"cpus": "0.5", "memory": "160M"}
    assert int(serve["stop_grace_period"][:-1]) > Settings.model_fields["shutdown_wait"].default + 5
    assert serve["healthcheck"]["test"] == ["CMD", "media", "health", "--serve"]
    assert serve["command"] == ["media", "serve"]
    for name in ("MEDIA_CATALOG_URL", "MEDIA_STORAGE_URL", "MEDIA_REDIS_URL"):
        assert serve["environment"].get(name) == services["worker"]["environment"].get(name)


@each_compose
def test_strangers_reach_the_server_by_nginx_alone_and_only_from_this_machine(file: str) -> None:
    services = compose(file)["services"]

    assert "ports" not in services["serve"]
    assert services["nginx"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["serve"]["environment"]["MEDIA_HTTP_BIND"] == "0.0.0.0:8080"


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
    assert run["EXPOSE"].split() == ["8469", "8080"]
    assert environment(stage("run"))["MEDIA_METRICS"] == "0.0.0.0:8469"


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
def test_a_redis_that_has_a_port_on_this_machine_has_a_password(file: str) -> None:
    server = compose(file)["services"]["redis"]

    assert "ports" not in server or "--requirepass" in server["command"]


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
    given = {
        name: value.replace("${POSTGRES_PASSWORD}", "x").replace("${REDIS_PASSWORD}", "x")
        for name, value in many["environment"].items()
    }

    assert {"MEDIA_CATALOG_URL", "MEDIA_STORAGE_URL"} <= given.keys() - one["environment"].keys()
    settings = Settings.model_validate(
        {name.removeprefix("MEDIA_").lower(): value for name, value in given.items()}
    )
    assert parse_s3(settings.storage_url).bucket == "media"
    assert not Address.of(settings.catalog_url).is_file
    assert "volumes" not in many
    assert many["deploy"]["replicas"] == 2


@each_compose
def test_the_file_of_endpoints_is_mounted_where_the_setting_says_for_all_who_read_it(file: str) -> None:
    [block] = blocks(ROOT / "docs/webhooks.md", "yaml")
    override = yaml.safe_load(block)
    readers = {name for name, service in compose(file)["services"].items() if "build" in service}
    [secret] = override["secrets"]

    assert override["services"].keys() == readers
    for service in override["services"].values():
        assert service["secrets"] == [secret]
        assert service["environment"] == {"MEDIA_WEBHOOK_ENDPOINTS": f"/run/secrets/{secret}"}
