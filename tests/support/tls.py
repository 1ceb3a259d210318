"""TLS before a server that speaks none, by certificates that an authority of the tests' own has signed."""

import shutil
import ssl
import subprocess
from pathlib import Path

from tests.support.clients import package_missing
from tests.support.tcp_proxy import TcpProxy

CA = "ca.pem"
OTHER_CA = "other.pem"
"""An authority that has signed nothing."""
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def make_certificates(folder: Path) -> Path:
    """Two authorities, and what the first has signed: certificates of a server and of a client."""
    if shutil.which("openssl") is None:
        package_missing("no openssl to make certificates")
    for name in (CA, OTHER_CA):
        made = ["-x509", *_KEY, "-keyout", f"{name}.key", "-out", name]
        _openssl(folder, "req", *made, "-subj", f"/CN={name}")
    for name in ("server", "client"):
        _make_signed(folder, name)
    return folder


def _make_signed(folder: Path, name: str) -> None:
    _openssl(folder, "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1")  # where the server is
    signed = ["-in", f"{name}.csr", "-CA", CA, "-CAkey", f"{CA}.key", "-CAcreateserial", "-extfile", "ext"]
    _openssl(folder, "x509", "-req", *signed, "-out", f"{name}.pem")


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


class TlsProxy(TcpProxy):
    """Speaks TLS with clients, and relays what they say to the server at `port`."""

    def __init__(self, port: int, certificates: Path, *, asks_for_certificates: bool = False) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        if asks_for_certificates:
            self.tls.verify_mode = ssl.CERT_REQUIRED
            self.tls.load_verify_locations(certificates / CA)
        super().__init__(port)
