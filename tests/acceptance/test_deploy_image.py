"""The images, built and run with the rights that compose and Kubernetes give them."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from scripts.processes import free_port
from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.clients import ROOT
from tests.support.commands import MEDIA, run_installed
from tests.support.deployment import SNIPPETS
from tests.support.images import BASE, ImageStore
from tests.support.workplace import database_on

pytestmark = pytest.mark.campaign
VERSION = "0.1.0"
MOST_BYTES = {"worker": 275_000_000, "minimal": 205_000_000}
OWNER = 10001
each = pytest.mark.parametrize("target", MOST_BYTES)


@pytest.fixture(scope="module")
def store() -> Iterator[ImageStore]:
    store = ImageStore()
    try:
        store.make_base()
        yield store
    finally:
        store.close()


@pytest.fixture(scope="module")
def built(store: ImageStore) -> dict[str, str]:
    """The images, by target."""
    return {target: store.build(target, VERSION=VERSION) for target in MOST_BYTES}


@pytest.fixture
def image(built: dict[str, str], target: str) -> str:
    return built[target]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What is mounted at /data, and belongs to the user of the image."""
    for folder in (tmp_path / "data", tmp_path / "data/media", tmp_path / "data/media/uploads"):
        folder.mkdir()
        shutil.chown(folder, OWNER, OWNER)
    return tmp_path / "data"


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return database_on(redis_server.url)


@each
def test_an_image_is_no_larger_than_it_was(store: ImageStore, image: str, target: str) -> None:
    assert store.inspect(image)["Size"] <= MOST_BYTES[target]


@each
def test_doctor_finds_decoders_as_confined_as_outside(
    store: ImageStore, image: str, volume: Path, url: str
) -> None:
    doctor = store.run(image, "media", "doctor", "--json", volume=volume, MEDIA_REDIS_URL=url)

    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    levels = {one["what"]: one["level"] for one in json.loads(doctor.stdout)}
    assert (levels["Decoders"], levels["Confinement"]) == ("ok", "ok")
    assert not {"error", "warning"} & {levels[what] for what in levels.keys() - {"Redis", "Backup"}}


@each
def test_what_waits_becomes_variants(store: ImageStore, image: str, volume: Path, url: str) -> None:
    (volume / "media/uploads/a.jpg").write_bytes(pictures.small())
    with redis.Redis.from_url(url) as app:
        app.xadd("media:uploads", {"event": '{"source": "uploads/a.jpg"}'})

    worked = store.run(image, "media", "worker", "--burst", volume=volume, MEDIA_REDIS_URL=url)

    assert worked.returncode == 0, worked.stderr
    variants = list((volume / "media/variants").rglob("*.jpg"))
    assert [(path.stat().st_uid, path.stat().st_mode & 0o777) for path in variants] == [(OWNER, 0o644)] * 3


@each
def test_a_worker_that_is_the_first_process_is_alive_until_sigterm_which_it_ends_with_0(
    store: ImageStore, image: str, volume: Path, url: str
) -> None:
    env = {"MEDIA_REDIS_URL": url, "MEDIA_METRICS": f"127.0.0.1:{free_port()}"}
    worker = store.start(image, volume, **env)
    assert worker.stderr is not None
    assert any('"healthy"' in line for line in worker.stderr)
    assert store.run(image, "media", "health", "--live", volume=volume, **env).returncode == 0

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(60) == 0
    worker.stderr.close()


@each
def test_the_standard_library_is_compiled_for_one_who_may_write_no_bytecode(
    store: ImageStore, image: str, volume: Path
) -> None:
    ask = "import json, os; print(os.path.exists(json.__cached__), json.__cached__)"

    assert store.run(image, "python", "-B", "-c", ask, volume=volume).stdout.startswith("True ")


@each
def test_an_image_says_what_it_is(store: ImageStore, image: str, volume: Path) -> None:
    config = store.inspect(image)["Config"]
    version = store.run(image, "media", "--version", volume=volume)

    assert version.stdout == f"{VERSION}\n"
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert store.inspect(image)["Healthcheck"]["Test"] == ["CMD", "media", "health", "--live"]


@each
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MEDIA_CATALOG_URL": "postgresql+asyncpg://m:x@127.0.0.1:1/m"}, "127.0.0.1"),
        ({"MEDIA_STORAGE_URL": "s3://media", "MEDIA_S3_ENDPOINT": "http://127.0.0.1:1"}, "127.0.0.1"),
    ],
)
def test_what_many_hosts_need_is_there(
    store: ImageStore, image: str, volume: Path, url: str, settings: dict[str, str], said: str
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}

    doctor = store.run(image, "media", "doctor", volume=volume, MEDIA_REDIS_URL=url, **keys, **settings)

    assert doctor.returncode == 1
    assert said in doctor.stdout
    assert "extra" not in doctor.stdout


@each
def test_a_listener_of_sqs_finds_the_service_that_it_asks(
    store: ImageStore, image: str, volume: Path, url: str
) -> None:
    env = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    env |= {"MEDIA_STORAGE_URL": "s3://media", "MEDIA_S3_ENDPOINT": "http://127.0.0.1:1"}
    env["AWS_ENDPOINT_URL_SQS"] = "http://127.0.0.1:1"
    command = ["media", "listen", "sqs", "http://127.0.0.1:1/queue", "--once"]

    listened = store.run(image, *command, volume=volume, MEDIA_REDIS_URL=url, **env)

    assert listened.returncode == 1
    assert "SQS: Could not connect" in listened.stderr
    assert "UnknownService" not in listened.stderr


@pytest.mark.parametrize("target", ["minimal"])
@pytest.mark.parametrize("program", ["sh", "bash", "apt-get", "perl", "pip", "uv"])
def test_the_minimal_image_has_no_program_for_an_intruder(
    store: ImageStore, image: str, volume: Path, program: str
) -> None:
    tried = store.run(image, program, "--version", volume=volume)

    assert tried.returncode == 127
    assert "not found" in tried.stderr


def test_the_commands_of_the_page_build_both(store: ImageStore, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\nshift\nexec {store.bud} --build-arg=BASE={BASE} "$@"\n')
    docker.chmod(0o755)

    script = SNIPPETS["image"].replace("docker ", f"{docker} ")
    subprocess.run(["sh", "-euc", script], cwd=ROOT, check=True, capture_output=True)

    version = run_installed([str(MEDIA), "--version"], {"HOME": str(tmp_path)}, tmp_path).stdout.strip()
    for name in ("media-worker", "media-worker:minimal"):
        labels = store.inspect(f"localhost/{name}")["Labels"]
        assert labels["org.opencontainers.image.version"] == version


@each
def test_a_change_of_the_code_changes_only_the_last_layer(
    store: ImageStore, image: str, target: str, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(
        ROOT, changed, ignore=shutil.ignore_patterns(".git", ".venv", ".tools", "__pycache__", "tests", "var")
    )
    before = store.inspect(image)["RootFS"]["Layers"]
    with (changed / "media_worker.py").open("a") as code:
        code.write("# changed\n")

    after = store.inspect(store.build(target, changed, VERSION=VERSION))["RootFS"]["Layers"]

    different = [
        number for number, (one, other) in enumerate(zip(before, after, strict=True)) if one != other
    ]
    project = len(before) - 1 - before[::-1].index(before[different[0]])
    assert different[0] == project
    assert set(different) <= {project, *range(project, len(before))}
