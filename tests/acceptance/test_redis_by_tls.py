"""Redis by TLS under an authority of its own: worker, check and doctor go by the options of the URL."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from scripts.processes import free_port
from scripts.redis_server import temporary_redis
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.tls import CA, OTHER_CA, TlsProxy, make_certificates
from tests.support.workplace import Workplace
from worker.queue import QueueUnavailable, check_answers, connect, job_queue_of

pytestmark = WITH_SERVICES

SECRET = "p@ss:w/rd"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_url(certificates: Path) -> Iterator[str]:
    """The URL, without options, of a server that is reached by TLS only and needs a password."""
    with temporary_redis() as server, closing(TlsProxy(server.port, certificates)) as proxy:
        admin: Any = redis.Redis.from_url(server.url)
        admin.config_set("requirepass", SECRET)
        admin.close()
        yield f"rediss://:p%40ss%3Aw%2Frd@127.0.0.1:{proxy.port}/0"


@pytest.fixture(scope="module")
def strict_url(certificates: Path) -> Iterator[str]:
    """The URL of a server that asks for a client's certificate, with the authority of the server's own.

    It is a Redis that speaks TLS by itself, or where it was built without TLS one behind a proxy.
    """
    with temporary_redis() as server, ExitStack() as stack:
        port = free_port()
        try:
            _speak_tls(server.url, port, certificates)
        except redis.ResponseError:  # it has no such option
            proxy = stack.enter_context(
                closing(TlsProxy(server.port, certificates, asks_for_certificates=True))
            )
            port = proxy.port
        sign_in = f":{urlsplit(server.url).password}@"
        yield f"rediss://{sign_in}127.0.0.1:{port}/0?ssl_ca_certs={certificates / CA}"


def _speak_tls(url: str, port: int, certificates: Path) -> None:
    options = {
        "tls-cert-file": certificates / "server.pem",
        "tls-key-file": certificates / "server.key",
        "tls-ca-cert-file": certificates / CA,
        "tls-auth-clients": "yes",
        "tls-port": port,
    }
    with redis.Redis.from_url(url) as admin:
        for name, value in options.items():
            admin.config_set(name, str(value))


def test_a_worker_shows_its_certificate_to_a_server_that_asks_for_one(
    strict_url: str, certificates: Path, migrated: Path, tmp_path: Path
) -> None:
    own = f"&ssl_certfile={certificates / 'client.pem'}&ssl_keyfile={certificates / 'client.key'}"
    place = Workplace(tmp_path, strict_url + own, migrated)
    worker = place.start("media")
    source = place.put("uploads/a.jpg", pictures.small())
    place.send({"source": source})

    assert place.await_end_of(source)[source]["type"] == "upload.ready"
    assert worker.stop() == 0
    place.close()


@pytest.mark.parametrize("shown", ["none", "one of another authority"])
async def test_a_server_that_asks_for_a_certificate_is_reported_with_the_options(
    strict_url: str, certificates: Path, shown: str
) -> None:
    others = f"&ssl_certfile={certificates / OTHER_CA}&ssl_keyfile={certificates / OTHER_CA}.key"
    url = strict_url if shown == "none" else strict_url + others
    client = connect(url, job_queue_of("media:uploads"))
    for _ in range(5):  # the server closes the connection, whether or not it was heard why
        with pytest.raises(QueueUnavailable) as caught:
            await check_answers(client, url)

        assert "ssl_certfile" in str(caught.value)
    await client.aclose(close_connection_pool=True)


def test_worker_check_and_doctor_trust_the_authority_that_the_url_names(
    tls_url: str, certificates: Path, migrated: Path, tmp_path: Path
) -> None:
    place = Workplace(tmp_path, f"{tls_url}?ssl_ca_certs={certificates / CA}", migrated)
    worker = place.start("media")
    source = place.put("uploads/a.jpg", pictures.small())
    place.send({"source": source})

    assert place.await_end_of(source)[source]["type"] == "upload.ready"
    worker.await_log("healthy")
    for options in (f"ssl_ca_certs={certificates / CA}&ssl_check_hostname=true", "ssl_cert_reqs=none"):
        checked = place.run("arq", "--check", MEDIA_REDIS_URL=f"{tls_url}?{options}")
        assert checked.returncode == 0, checked.stderr
    doctor = media(place.env(), "doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout
    assert worker.stop() == 0
    place.close()


async def test_a_client_reads_its_certificates_once(tls_url: str, certificates: Path, tmp_path: Path) -> None:
    """To read them takes 50 ms, for which everything else in the process would wait at each connection."""
    read = Path(shutil.copy(certificates / CA, tmp_path))
    client = connect(f"{tls_url}?ssl_ca_certs={read}", job_queue_of("media:uploads"))
    await client.ping()
    read.unlink()

    await asyncio.gather(*(client.ping() for _ in range(4)))

    await client.aclose(close_connection_pool=True)


@pytest.mark.parametrize("authority", ["the system's", "another one"])
@pytest.mark.rotating(1)
def test_an_untrusted_authority_is_reported_with_the_option(
    tls_url: str, certificates: Path, migrated: Path, tmp_path: Path, authority: str
) -> None:
    place = Workplace(tmp_path, f"{tls_url}?ssl_cert_reqs=none", migrated)
    url = tls_url if authority == "the system's" else f"{tls_url}?ssl_ca_certs={certificates / OTHER_CA}"
    env = place.env(MEDIA_REDIS_URL=url)

    worker = place.run("media", MEDIA_REDIS_URL=url)
    checked = place.run("arq", "--check", MEDIA_REDIS_URL=url)
    [found] = [one for one in document(media(env, "doctor", "--json")) if one["what"] == "Redis"]

    assert (worker.returncode, checked.returncode, found["level"]) == (1, 1, "error")
    for answer in (worker.stderr, checked.stderr, f"{found['detail']} {found['advice']}"):
        assert "certificate is not trusted" in answer
        assert "ssl_ca_certs" in answer
        assert SECRET not in answer
    place.close()
