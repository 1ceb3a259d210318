"""Redis by TLS under an authority of its own: worker, check and doctor go by the options of the URL."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from scripts.processes import LAUNCHER
from scripts.redis_server import find_executable
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.workplace import Workplace, eventually

SECRET = "p@ss:w/rd"


def openssl(*words: str, cwd: Path) -> None:
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, `ca.pem`, and a certificate for 127.0.0.1 that it has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates")
    folder = tmp_path_factory.mktemp("certificates")
    key = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=own", cwd=folder)
    openssl("req", *key, "-keyout", "redis.key", "-out", "redis.csr", "-subj", "/CN=redis", cwd=folder)
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1")
    signed = ["x509", "-req", "-in", "redis.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    openssl(*signed, "-extfile", "ext", "-out", "redis.pem", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def tls_url(certificates: Path) -> Iterator[str]:
    """The URL, without options, of a server that speaks TLS only and needs a password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = {"cert-file": "redis.pem", "key-file": "redis.key", "ca-cert-file": "ca.pem"}
    words = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--save", ""]
    words += [word for name, file in files.items() for word in (f"--tls-{name}", str(certificates / file))]
    words += ["--requirepass", SECRET]
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(find_executable()), *words]
    server = subprocess.Popen(command, cwd=certificates, stdout=subprocess.DEVNULL)
    url = f"rediss://:p%40ss%3Aw%2Frd@127.0.0.1:{port}/0"

    def answers() -> bool:
        if server.poll() is not None:
            pytest.skip(f"{find_executable()} does not speak TLS")
        try:
            return bool(redis.Redis.from_url(url, ssl_cert_reqs="none").ping())
        except redis.RedisError:
            return False

    eventually(answers)
    yield url
    server.terminate()
    server.wait()


def test_worker_check_and_doctor_trust_the_authority_that_the_url_names(
    tls_url: str, certificates: Path, migrated: Path, tmp_path: Path
) -> None:
    place = Workplace(tmp_path, f"{tls_url}?ssl_ca_certs={certificates / 'ca.pem'}", migrated)
    worker = place.start("media")
    source = place.put("uploads/a.jpg", pictures.small())
    place.send({"source": source})

    assert place.await_end_of(source)[source]["type"] == "upload.ready"
    worker.await_log("healthy")
    for options in (f"ssl_ca_certs={certificates / 'ca.pem'}&ssl_check_hostname=true", "ssl_cert_reqs=none"):
        checked = place.run("arq", "--check", MEDIA_REDIS_URL=f"{tls_url}?{options}")
        assert checked.returncode == 0, checked.stderr
    doctor = media(place.env(), "doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout
    assert worker.stop() == 0
    place.close()


def test_an_untrusted_authority_is_reported_with_the_option(
    tls_url: str, migrated: Path, tmp_path: Path
) -> None:
    place = Workplace(tmp_path, f"{tls_url}?ssl_cert_reqs=none", migrated)
    env = place.env(MEDIA_REDIS_URL=tls_url)

    worker = place.run("media", MEDIA_REDIS_URL=tls_url)
    checked = place.run("arq", "--check", MEDIA_REDIS_URL=tls_url)
    [found] = [one for one in document(media(env, "doctor", "--json")) if one["what"] == "Redis"]

    assert (worker.returncode, checked.returncode, found["level"]) == (1, 1, "error")
    for answer in (worker.stderr, checked.stderr, f"{found['detail']} {found['advice']}"):
        assert "certificate is not trusted" in answer
        assert "ssl_ca_certs" in answer
        assert SECRET not in answer
    place.close()
