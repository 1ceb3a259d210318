"""deploy/systemd and deploy/redis on a Debian that systemd has booted, installed as the page says."""

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from tests.support.booted_host import BootedHost
from tests.support.clients import ROOT
from tests.support.deployed_redis import passwords_in
from tests.support.deployment import SNIPPETS
from tests.support.workplace import eventually

pytestmark = pytest.mark.campaign
PASSWORD = """
password=$(sed --quiet 's/^user worker on >\\([^ ]*\\) .*/\\1/p' /etc/redis/users.acl)
sed --in-place "s/WORKER-PASSWORD/$password/" /etc/media-worker.env
systemctl enable redis-server
"""
# Everything that the unit says, but for what it starts.
DOCTOR = """
unit=/run/systemd/system/doctor.service
sed 's#^ExecStart=.*#ExecStart=/usr/local/bin/media doctor --json#; s/^Type=.*/Type=oneshot/; /^Restart/d' \\
    /etc/systemd/system/media-worker.service > $unit
sed --in-place 's#^User=#StandardOutput=file:/run/doctor.json\\nUser=#' $unit
systemctl daemon-reload && systemctl start doctor && cat /run/doctor.json
"""


@pytest.fixture(scope="module")
def host() -> Iterator[BootedHost]:
    host = BootedHost()
    try:
        host.prepare(SNIPPETS["redis"] + SNIPPETS["systemd"] + PASSWORD)
        shutil.copy(ROOT / "scripts/pictures/cairn.jpg", host.root / "srv/media/uploads")
        host.boot()
        yield host
    finally:
        host.close()


def shown(host: BootedHost, name: str) -> str:
    """A property of the worker's unit."""
    return host.run(f"systemctl show --property={name} --value media-worker").stdout.strip()


def is_ready(host: BootedHost) -> bool:
    return host.run("runuser --user media media health").stdout.startswith("ready")


def test_the_host_starts_a_worker_that_is_ready(host: BootedHost) -> None:
    eventually(lambda: is_ready(host), within=60)

    assert host.run("systemctl is-active redis-server media-worker").stdout.split() == ["active"] * 2
    assert shown(host, "NRestarts") == "0"


def test_a_worker_has_no_capability_and_decoders_that_are_confined(host: BootedHost) -> None:
    status = host.run(f"cat /proc/{shown(host, 'MainPID')}/status").stdout
    doctor = host.run(DOCTOR)

    assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)
    assert doctor.returncode == 0, doctor.stderr
    levels = {one["what"]: one["level"] for one in json.loads(doctor.stdout)}
    assert levels["Confinement"] == levels["Decoders"] == levels["Redis"] == "ok"
    assert "error" not in levels.values()


def test_an_upload_becomes_variants_that_everybody_can_read(host: BootedHost) -> None:
    password = passwords_in(host.root / "etc/redis/users.acl")["app"]
    event = '{"source": "uploads/cairn.jpg"}'
    host.run(f"redis-cli -u redis://app:{password}@127.0.0.1:6379/0 XADD media:uploads '*' event '{event}'")

    eventually(lambda: len(list((host.root / "srv/media/variants").rglob("*.jpg"))) == 3)

    found = host.run("runuser --user daemon -- find /srv/media/variants -name '*.jpg' -readable")
    assert len(found.stdout.splitlines()) == 3


def test_a_worker_that_is_killed_is_started_again(host: BootedHost) -> None:
    host.run("systemctl kill --signal=KILL --kill-whom=main media-worker")

    eventually(lambda: shown(host, "NRestarts") == "1" and is_ready(host), within=60)


def test_a_worker_that_is_stopped_ends_with_0(host: BootedHost) -> None:
    stopped = host.run("systemctl stop media-worker")

    assert stopped.returncode == 0
    assert (shown(host, "Result"), shown(host, "ExecMainStatus")) == ("success", "0")
    assert shown(host, "ExecMainCode") == "1"  # it ended by itself


def test_a_mistake_in_the_settings_is_not_tried_again(host: BootedHost) -> None:
    host.run("echo MEDIA_LEASE=soon >> /etc/media-worker.env; systemctl start media-worker || true")

    eventually(lambda: shown(host, "ActiveState") == "failed")

    assert (shown(host, "ExecMainStatus"), shown(host, "NRestarts")) == ("2", "0")
    assert "MEDIA_LEASE" in host.run("journalctl --unit=media-worker --output=cat --lines=5").stdout
