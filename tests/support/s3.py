"""S3 servers of the tests: one of each kind a process, and a prefix a test; or why there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from scripts.s3_server import (
    BUCKET,
    S3NotFoundError,
    S3Server,
    SeaweedServer,
    temporary_ministack,
    temporary_seaweedfs,
)
from storage.blobs.s3_place import S3Place
from tests.support.clients import missing, skip_without_services


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedServer]:
    """A SeaweedFS for tests that leave it as they found it."""
    with own_seaweedfs() as server:
        yield server


@contextmanager
def own_seaweedfs() -> Iterator[SeaweedServer]:
    """A SeaweedFS that one test may stop and kill."""
    skip_without_services()
    try:
        with temporary_seaweedfs() as server, client_keys(server):
            yield server
    except S3NotFoundError as error:
        missing(str(error))


@pytest.fixture(scope="session")
def ministack() -> Iterator[S3Server]:
    """An S3 that sorts listings by the whole key, as AWS does."""
    skip_without_services()
    try:
        with temporary_ministack() as server, client_keys(server):
            yield server
    except S3NotFoundError as error:
        missing(str(error))


def new_place(server: S3Server, bucket: str = BUCKET) -> S3Place:
    """A prefix that nobody has used."""
    return S3Place(bucket, f"tests/{uuid4().hex}", server.endpoint, "path")


@contextmanager
def client_keys(server: S3Server) -> Iterator[None]:
    """The variables of the environment from which every client takes its key."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.env.items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        yield
