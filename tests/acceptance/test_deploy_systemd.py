"""deploy/systemd: the unit is hardened, and a worker works under it, installed as the page says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest
import redis
from dotenv import dotenv_values

from tests.support import pictures, unit_filter
from tests.support.clients import WITH_SERVICES, find_uv
from tests.support.commands import MEDIA, document, run_installed
from tests.support.deployed_redis import deployed_redis
from tests.support.deployment import DEPLOY, SNIPPETS
from tests.support.spare_host import SpareHost
from tests.support.unit_filter import settings_of
from worker.settings import Settings

pytestmark = [WITH_SERVICES, pytest.mark.rotating(5, of="module")]

UNIT = DEPLOY / "systemd/media-worker.service"
SERVE = DEPLOY / "systemd/media-serve.service"
ENV = DEPLOY / "systemd/media-worker.env"
OF_SERVE = "/etc/systemd/system/media-serve.service"
UNDER_IT = "cd /var/lib/media-worker; runuser --user media -- /usr/bin/python3 /opt/unit_filter.py"
_GOODBYE_S = 7  # after the images in flight

if shutil.which("systemd-analyze") is None:
    pytest.skip("no systemd", allow_module_level=True)
if "--offline" not in subprocess.check_output(["systemd-analyze", "--help"], text=True):
    pytest.skip("this systemd is older than 250", allow_module_level=True)


@pytest.fixture(scope="module")
def urls() -> Iterator[Mapping[str, str]]:
    with deployed_redis() as urls:
        yield urls


def is_new_enough(python: Path) -> bool:
    """Whether this Python is there, and one that the project runs on."""
    ask = [str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return python.exists() and subprocess.run(ask).returncode == 0


@pytest.fixture(scope="module")
def host(urls: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> SpareHost:
    """A host on which the commands of the page have been run, with the password of its Redis."""
    uv = find_uv()
    if uv is None or not is_new_enough(Path("/usr/bin/python3")):
        pytest.skip("no uv, or no Python 3.11 of the system")
    host = SpareHost(tmp_path_factory.mktemp("host"))
    # To compile takes 10 s of CPU: who runs the tests may write, and so does it once at most.
    snippet = SNIPPETS["systemd"].replace("UV_COMPILE_BYTECODE=1", "UV_COMPILE_BYTECODE=0")
    done = host.run(f'PATH="{Path(uv).parent}:$PATH"\n' + snippet)
    if done.returncode and "CI" not in os.environ:
        pytest.skip(f"no package index within reach: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    state = (
        "install --directory --owner=media --group=media --mode=750 /var/lib/media-worker"  # as systemd does
    )
    url = f"sed --in-place 's|^MEDIA_REDIS_URL=.*|MEDIA_REDIS_URL={urls['worker']}|' /etc/media-worker.env"
    patient = "echo MEDIA_SLOW_MS=0 >> /etc/media-worker.env"  # a busy machine is no fault of the unit's
    done = host.run(f"{state}\n{url}\n{patient}\ncp {unit_filter.__file__} /opt/unit_filter.py")
    assert done.returncode == 0, done.stderr
    return host


def confined_doctor(unit: Path, home: Path) -> dict[str, str]:
    """The levels of what doctor says under a unit."""
    without_capabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    filtered = [sys.executable, unit_filter.__file__, str(unit), str(MEDIA), "doctor", "--json"]
    command = [*without_capabilities, *filtered]
    ended = run_installed(command, {"PATH": "/usr/bin", "HOME": str(home), "MEDIA_ENV_FILE": ""}, home)
    return {one["what"]: one["level"] for one in document(ended)}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A program of one line that can be installed."""
    wheel = tmp_path / "small-1.0-py3-none-any.whl"
    told = {
        "small.py": "def main() -> None: ...\n",
        "small-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n",
        "small-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "small-1.0.dist-info/entry_points.txt": "[console_scripts]\nsmall = small:main\n",
    }
    record = "".join(f"{name},,\n" for name in told)
    with ZipFile(wheel, "w") as file:
        for name, text in {**told, "small-1.0.dist-info/RECORD": record}.items():
            file.writestr(name, text)
    return wheel


def test_what_root_installs_is_compiled_for_a_user_who_may_write_nothing_there(
    wheel: Path, tmp_path: Path
) -> None:
    if (uv := find_uv()) is None:
        pytest.skip("no uv")
    [exports] = re.findall(r"^export UV_TOOL_DIR=.*$", SNIPPETS["systemd"], re.MULTILINE)
    exports = re.sub(r"(_DIR)=/", rf"\1={tmp_path}/", exports)

    install = f"{exports}\n{uv} tool install --offline --no-index --python {sys.executable} {wheel}"
    done = subprocess.run(["bash", "-euc", install], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("small.*.pyc"))) == 1


@pytest.mark.parametrize("unit", [UNIT, SERVE])
def test_hardly_anything_is_left_that_a_unit_could_take_away(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout


def test_decoders_confine_and_limit_themselves_under_the_filter_of_the_unit(tmp_path: Path) -> None:
    levels = confined_doctor(UNIT, tmp_path)

    assert (levels["Decoders"], levels["Confinement"]) == ("ok", "ok")
    assert "Decoder limits" not in levels


def test_doctor_notices_what_a_filter_lacks(tmp_path: Path) -> None:
    poorer = tmp_path / "poorer.service"
    poorer.write_text(re.sub("^SystemCallFilter=landlock.*", "", UNIT.read_text(), flags=re.MULTILINE))

    levels = confined_doctor(poorer, tmp_path)

    assert (levels["Confinement"], levels["Decoder limits"]) == ("ok", "warning")  # seccomp needs no Landlock


def test_the_unit_leaves_a_worker_its_time_to_stop_and_its_memory() -> None:
    unit, defaults = dict(settings_of(str(UNIT))), Settings.model_construct()

    assert int(unit["TimeoutStopSec"]) > defaults.shutdown_wait + _GOODBYE_S
    assert unit["MemoryMax"] == f"{defaults.memory_mb}M"


def test_the_unit_of_the_server_differs_from_the_workers_in_what_it_takes() -> None:
    worker, serve = settings_of(str(UNIT)), settings_of(str(SERVE))
    shared = dict(serve)

    assert shared["MemoryMax"] == "160M"
    assert int(shared["TimeoutStopSec"]) > Settings.model_fields["shutdown_wait"].default + 5
    assert int(shared["LimitNOFILE"]) > Settings.model_fields["http_connections"].default + 300
    for name in ("User", "Group", "ReadWritePaths", "RestartPreventExitStatus", "WorkingDirectory"):
        assert shared[name] == dict(worker)[name]


def test_the_settings_are_known_and_lie_where_the_unit_may_write() -> None:
    unit, given = dict(settings_of(str(UNIT))), dotenv_values(ENV)
    settings = Settings.model_validate(
        {name.removeprefix("MEDIA_").lower(): value for name, value in given.items()}
    )

    assert {name.removeprefix("MEDIA_").lower() for name in given} <= Settings.model_fields.keys()
    assert str(settings.storage_root) == unit["ReadWritePaths"] == unit["RequiresMountsFor"]
    assert (
        str(settings.catalog_path.parent) == unit["WorkingDirectory"] == f"/var/lib/{unit['StateDirectory']}"
    )
    assert f"d {settings.storage_root}/uploads " in (DEPLOY / "systemd/tmpfiles.conf").read_text()


def test_backups_need_the_three_lines_that_name_their_folder() -> None:
    lines = [line for file in (UNIT, ENV) for line in file.read_text().splitlines() if "/srv/backup" in line]

    assert lines == [
        "#RequiresMountsFor=/srv/backup",
        "#ReadWritePaths=-/srv/backup",
        "#MEDIA_BACKUP=/srv/backup",
    ]


def test_systemd_knows_every_line_of_the_units(host: SpareHost) -> None:
    units = "/etc/systemd/system/media-worker.service"
    verified = host.run(f"systemd-analyze verify --man=no {units}")
    install = f"systemctl() {{ :; }}\n{SNIPPETS['systemd-serve']}"
    of_serve = host.run(f"{install}\nsystemd-analyze verify --man=no {units} {OF_SERVE}")

    assert (verified.returncode, verified.stderr) == (0, "")
    assert (of_serve.returncode, of_serve.stderr) == (0, "")


@pytest.mark.parametrize(("codes", "restarts"), [("0", False), ("1 0", False), ("1 1", True)])
def test_a_worker_that_hangs_twice_in_a_row_is_restarted_by_a_timer(
    host: SpareHost, codes: str, restarts: bool
) -> None:
    """The worker's answers, the wait between them and the restart are those of programs of the test."""
    unit = "/etc/systemd/system/media-worker-alive"
    line = settings_of(str(DEPLOY / "systemd/media-worker-alive.service"))
    [command] = [value for name, value in line if name == "ExecStart"]
    answers = f'left="{codes}"; media() {{ now=${{left%% *}}; left=${{left#* }}; return $now; }}'
    stubs = f"{answers}; sleep() {{ :; }}; systemctl() {{ echo $*; }}"
    verified = host.run(
        f"systemctl() {{ :; }}\n{SNIPPETS['systemd-alive']}\nsystemd-analyze verify --man=no {unit}.timer"
    )
    ran = host.run(f"{stubs}\n{shlex.split(command)[2]}")

    assert (verified.returncode, verified.stderr) == (0, "")
    assert (ran.returncode, ran.stdout) == (0, "try-restart media-worker.service\n" if restarts else "")


def test_doctor_finds_the_settings_by_itself_and_misses_a_backup_alone(host: SpareHost) -> None:
    doctor = host.run(
        f"{UNDER_IT} /etc/systemd/system/media-worker.service /usr/local/bin/media doctor --json"
    )

    assert [one["what"] for one in document(doctor) if one["level"] != "ok"] == ["Backup"], doctor.stdout
    assert "/etc/media-worker.env" in doctor.stdout


@pytest.mark.rotating(1)
def test_a_worker_under_the_unit_makes_variants_that_a_web_server_can_read(
    host: SpareHost, urls: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(pictures.small())
    app = "runuser --user nobody --group media -- tee /srv/media/uploads/a.jpg"
    assert host.run(f"{app} < {tmp_path}/a.jpg > /dev/null").returncode == 0
    with redis.Redis.from_url(urls["app"]) as sender:
        sender.xadd("media:uploads", {"event": '{"source": "uploads/a.jpg"}'})

    start = dict(settings_of(str(UNIT)))["ExecStart"]
    worked = host.run(f"{UNDER_IT} /etc/systemd/system/media-worker.service {start} --burst")

    assert worked.returncode == 0, worked.stderr
    # Nothing is compiled here, and so the first import of much stands in the way of the event loop.
    lines = [line for line in worked.stderr.splitlines() if "event_loop_lagged" not in line]
    assert [line for line in lines if re.search('"level":"(?:warning|error)"', line)] == []
    read = host.run("runuser --user daemon -- find /srv/media/variants -name '*.jpg' -readable")
    assert len(read.stdout.splitlines()) == 3
    assert host.run("runuser --user daemon -- cat /var/lib/media-worker/catalog.db").returncode != 0
