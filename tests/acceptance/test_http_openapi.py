"""The description of the HTTP API: a live server answers as it says, whatever it is asked."""

import asyncio
import re
import subprocess
from pathlib import Path

import jsonschema
import orjson
import pytest

from tests.support.clients import WITH_SERVICES
from tests.support.face import FaceProcess, new_secret, start_face
from tests.support.pictures import small
from tests.support.workplace import BIN, Workplace
from worker.http.app import description

SCOPES = "upload,read,operate,originals"
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    *("unsupported_method", "allow_header_conformance", "ignored_auth"),
)
PARTS = 3  # of the paths, each of which is covered on another day
PLAN = "sweep-20261121T030000-5e0c1d2f"  # of the examples, as is the cat


@pytest.fixture(scope="module")
def face(live: Workplace) -> FaceProcess:
    """A server beside a worker, with an upload, a failure, a dead letter and a plan."""
    for source, content in (("uploads/2026/11/cat.jpg", small()), ("uploads/broken.jpg", b"broken")):
        live.send({"source": live.put(source, content)})
    live.send_raw({"event": b"nonsense"})
    live.await_end_of("uploads/2026/11/cat.jpg", "uploads/broken.jpg")
    folder = live.root / "trash" / PLAN
    folder.mkdir(parents=True)
    head = {"id": PLAN, "made": "2026-11-21T03:00:00+00:00", "files": 9, "rows": 9, "parts": 1}
    folder.joinpath("plan.json").write_bytes(
        orjson.dumps({**head, "counts": {"orphan": 1}, "bytes": {"orphan": 7}})
    )
    folder.joinpath("plan-000000.jsonl").write_bytes(b'{"kind":"orphan","key":"variants/x.jpg","bytes":7}\n')
    return start_face(live)


@pytest.fixture(scope="module")
def secret(live: Workplace, face: FaceProcess) -> str:
    """A key that may do everything."""
    return asyncio.run(new_secret(f"sqlite+aiosqlite:///{live.home / 'catalog.db'}", scopes=SCOPES))


@WITH_SERVICES
@pytest.mark.parametrize("phase", [*(f"coverage-{part}" for part in range(PARTS)), "fuzzing"])
@pytest.mark.rotating(1)
def test_no_request_gets_an_error_of_the_server_or_an_answer_that_is_not_described(
    face: FaceProcess, secret: str, tmp_path: Path, phase: str
) -> None:
    phase, _, part = phase.partition("-")
    # A stream has no end; its own tests read some.
    paths = [path for path in sorted(description()["paths"]) if not path.startswith("/v1/events")]
    asked = "|".join(map(re.escape, paths[int(part) :: PARTS] if part else paths))
    tmp_path.joinpath("schemathesis.toml").write_text("[parameters]\nwait = 0\n")  # or it waits for nobody
    command = [str(BIN / "st"), "run", f"{face.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {secret}"]
    command += ["--generation-deterministic", "--max-examples", "3", "--checks", ",".join(CHECKS)]
    # What is refused before its body has come may end its connection.
    command += ["--request-retries", "3"]
    command += ["--phases", f"examples,{phase}", "--include-path-regex", f"^({asked})$"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout


def test_every_example_is_one_of_what_it_is_an_example_of() -> None:
    document = description()

    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    parts = [*(answer for one in operations for answer in one["responses"].values())]
    parts += [one["requestBody"] for one in operations if "requestBody" in one]
    bodies = [body for part in parts for body in part.get("content", {}).values() if "example" in body]
    assert len(bodies) > 50
    for body in bodies:
        jsonschema.validate(body["example"], {**body["schema"], "components": document["components"]})


def test_every_route_has_a_sentence_an_example_and_its_problems() -> None:
    document = description()

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            good = [answer for status, answer in operation["responses"].items() if status < "300"]
            bodies = [content for answer in good for content in answer.get("content", {}).values()]
            assert operation["summary"], where
            assert good, where
            assert all("example" in body or "examples" in body for body in bodies), where
            assert {"400", "500", "503"} <= operation["responses"].keys(), where
            is_open = path == "/v1/limits" or "101" in operation["responses"]
            assert path.startswith("/v1/") <= ("security" in operation or is_open), where
