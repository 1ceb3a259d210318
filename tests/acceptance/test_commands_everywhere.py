"""What holds for every subcommand of `media`: help, version, wrong settings, clean standard output."""

import os
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.media import COMMANDS, build
from tests.support.commands import media


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}


def test_the_help_names_every_command_and_what_it_does(env: dict[str, str]) -> None:
    ended = media({**env, "COLUMNS": "120"}, "--help")

    assert ended.returncode == 0
    for name, purpose in COMMANDS.items():
        assert f" {name} " in ended.stdout
        assert purpose in ended.stdout


def test_the_version_is_that_of_the_package(env: dict[str, str]) -> None:
    ended = media(env, "--version")

    assert (ended.returncode, ended.stdout) == (0, version("media-worker") + "\n")


@pytest.mark.parametrize("argument", ["--help", "--version", "nonsense"])
def test_what_needs_no_command_imports_none(env: dict[str, str], argument: str) -> None:
    code = (
        "import sys; from scripts.media import main\n"
        f"sys.argv = ['media', {argument!r}]\n"
        "try: main()\n"
        "finally: print([name for name in ('redis', 'sqlalchemy', 'arq') if name in sys.modules])"
    )

    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_report_waits_for_no_engine(env: dict[str, str]) -> None:
    code = "import sys, scripts.storage_stats; print('sqlalchemy' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    assert ended.stdout == "False\n"


def test_the_totals_are_read_without_what_writes_the_catalog(env: dict[str, str]) -> None:
    code = "import sys, storage.catalog.reports; print(*sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    loaded = {name for name in ended.stdout.split() if name.startswith("storage.catalog.")}
    assert "storage.catalog.database" in loaded
    assert not loaded & {f"storage.catalog.{name}" for name in ("opening", "claims", "intake", "sweeps")}
    assert "alembic" not in ended.stdout.split()


def test_the_help_comes_at_once(env: dict[str, str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    media(env, "--help")

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 1  # of CPU: this machine may be busy


GROUPS = {
    "failed": ["failed", "list"],
    "keys": ["keys", "list"],
    "stream": ["stream", "reset"],
    "listen": ["listen", "sqs"],
    "webhooks": ["webhooks", "list"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_takes_json_but_servers(name: str) -> None:
    words = GROUPS.get(name, [name])

    ended = CliRunner().invoke(build(words), [*words, "--help"], env={"COLUMNS": "120"})

    assert ended.exit_code == 0
    assert ("--json" in ended.output) == (name not in ("worker", "serve"))


@pytest.mark.parametrize("words", [["worker"], ["doctor"], ["failed", "list", "--json"]])
def test_wrong_settings_end_a_command_with_2_and_all_mistakes_on_standard_error(
    env: dict[str, str], words: list[str]
) -> None:
    wrong = {"MEDIA_REDIS_URL": "http://:hunter2@x", "MEDIA_LEASE": "never", "MEDIA_FORMATS": "jpg"}

    ended = media({**env, **wrong}, *words)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert all(name in ended.stderr for name in wrong)
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize("words", [["nonsense"], ["show"], ["events", "--since", "x"], ["failed", "no"]])
def test_bad_usage_ends_with_2_and_a_hint(env: dict[str, str], words: list[str]) -> None:
    ended = media(env, *words)

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "--help" in ended.stderr + ended.stdout


def test_a_terminal_that_knows_only_ascii_is_no_reason_to_fail(env: dict[str, str], tmp_path: Path) -> None:
    ascii_only = {**env, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    ended = media(
        ascii_only, "enqueue", "--recipe", "gr\N{LATIN SMALL LETTER O WITH DIAERESIS}sser", tmp_path
    )

    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "There is no recipe" in ended.stderr


def test_no_file_gets_the_number_of_a_standard_stream_that_is_closed(env: dict[str, str]) -> None:
    code = (
        "import media_worker, os, sys; sys.argv = ['media', '--version']\n"
        "try: media_worker.main()\n"
        "finally: sys.stdout.write(os.readlink('/proc/self/fd/2'))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        preexec_fn=lambda: os.close(2),
        stdout=subprocess.PIPE,
        text=True,
    )

    assert ended.stdout.splitlines()[-1] == "/dev/null"
