"""TLS before a server that speaks none, by certificates that an authority of the tests' own has signed."""

import shutil
import ssl
import subprocess
from pathlib import Path

from tests.support.clients import missing
from tests.support.tcp_proxy import TcpProxy

CA = "ca.pem"
OTHER_CA = "other.pem"
"""An authority that has signed nothing."""
_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def make_certificates(folder: Path) -> Path:
    """Two authorities, and a certificate for 127.0.0.1 that the first of them has signed."""
    if shutil.which("openssl") is None:
        missing("no openssl to make certificates")
    for name in (CA, OTHER_CA):
        made = ["-x509", *_KEY, "-keyout", f"{name}.key", "-out", name]
        _openssl(folder, "req", *made, "-subj", f"/CN={name}")
    _openssl(folder, "req", *_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1")
    signed = ["-in", "server.csr", "-CA", CA, "-CAkey", f"{CA}.key", "-CAcreateserial", "-extfile", "ext"]
    _openssl(folder, "x509", "-req", *signed, "-out", "server.pem")
    return folder


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


class TlsProxy(TcpProxy):
    """Speaks TLS with clients, and relays what they say to the server at `port`."""

    def __init__(self, port: int, certificates: Path) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        super().__init__(port)
