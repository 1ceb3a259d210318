"""The examples of docs/many-hosts.md: what they sign, a browser can send to a real server of S3."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest

from scripts import readme
from scripts.s3_server import BUCKET, SeaweedServer
from tests.support.clients import aws_sdk

REGION = "eu-central-3"  # the default of no client
KEY = "uploads/2026/11/cat.jpg"
PAGE = (readme.DOCS / "many-hosts.md").read_text("utf-8")
SNIPPETS = dict(re.findall(r"<!-- snippet: presign-(python|node) -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL))


@pytest.fixture(params=["python", "node"])
def signed(request: pytest.FixtureRequest, seaweedfs: SeaweedServer, tmp_path: Path) -> Any:
    """What the example prints: a URL and a form."""
    script = tmp_path / "presign.cjs"
    script.write_text(SNIPPETS[request.param])
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BUCKET": BUCKET,
        **seaweedfs.env,
        "AWS_REGION": REGION,
    }
    if request.param == "node":
        env["NODE_PATH"] = str(aws_sdk())
    runner = "node" if request.param == "node" else sys.executable
    done = subprocess.run([runner, str(script)], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def send(url: str, method: str, body: bytes, **headers: str) -> int:
    request = Request(url, data=body, method=method, headers=headers)
    try:
        with urlopen(request, timeout=30) as answer:
            status: int = answer.status
    except HTTPError as error:
        error.close()
        status = error.code
    return status


def post(form: Any, content: bytes) -> int:
    """Send a form as a browser does: all fields, and the file last."""
    head = '--edge\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    fields = "".join(head.format(name, "") + f"{value}\r\n" for name, value in form["fields"].items())
    body = (fields + head.format("file", '; filename="cat.jpg"')).encode() + content + b"\r\n--edge--\r\n"
    return send(form["url"], "POST", body, **{"Content-Type": "multipart/form-data; boundary=edge"})


def stored(server: SeaweedServer) -> bytes:
    s3 = boto3.client("s3", endpoint_url=server.endpoint)
    content: bytes = s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    s3.delete_object(Bucket=BUCKET, Key=KEY)
    return content


@pytest.mark.rotating(1)
def test_a_signed_url_takes_an_original(signed: Any, seaweedfs: SeaweedServer) -> None:
    assert f"%2F{REGION}%2Fs3%2F" in signed["put"]
    assert send(signed["put"], "PUT", b"of a browser", **{"Content-Type": "image/jpeg"}) == 200
    assert stored(seaweedfs) == b"of a browser"


@pytest.mark.rotating(1)
def test_a_signed_form_takes_an_original_and_refuses_one_that_is_too_large(
    signed: Any, seaweedfs: SeaweedServer
) -> None:
    assert f"/{REGION}/s3/" in str(signed["post"]["fields"])
    assert post(signed["post"], b"of a form") in (200, 204)
    assert stored(seaweedfs) == b"of a form"
    assert post(signed["post"], bytes(10_485_761)) in (400, 403, 413)
