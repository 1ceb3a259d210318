"""The HTTP face in tests: in the test's own process, or as the process that people run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from storage.blobs.opening import open_blobs
from storage.catalog.opening import open_catalog
from tests.support import fork_server
from tests.support.fork_server import LoggedProcess
from tests.support.ports import free_port
from tests.support.workplace import Started, WorkerProcess, Workplace
from worker.http.app import build
from worker.http.face import Face, open_face
from worker.http.keys import new_key
from worker.settings import Settings

SECRET = "a-secret-of-the-tests-with-32-bytes"
HERE = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class OpenFace:
    """A face in this process, and a client that calls it without a socket."""

    face: Face
    client: httpx.AsyncClient

    async def key(
        self,
        name: str = "app",
        scopes: str = "upload,read",
        owner: str | None = None,
        prefix: str | None = None,
    ) -> dict[str, str]:
        """The header of a new key, which counts at once."""
        secret, key = new_key(name, scopes.split(","), owner, prefix, 0)
        assert await self.face.stores.catalog.http_keys.add(key)
        self.face.access.forget()
        return {"Authorization": f"Bearer {secret}"}


def settings_in(home: Path, redis_url: str, **values: object) -> Settings:
    """Settings of an installation in that folder."""
    given = {
        "redis_url": redis_url,
        "storage_url": f"file:{home / 'media'}",
        "catalog_url": f"sqlite+aiosqlite:///{home / 'catalog.db'}",
        "log": "json",
        "http_secret": SECRET,
        **values,
    }
    return Settings.model_validate(given)


async def install(settings: Settings) -> None:
    """Have a new catalog and an empty storage belong together."""
    async with (
        open_catalog(settings.catalog) as catalog,
        open_blobs(settings.storage_url, create=True) as blobs,
    ):
        await blobs.bind(catalog.id, catalog_is_new=True)
        await catalog.database.mark_bound()


Opening = Callable[..., AbstractAsyncContextManager[OpenFace]]
"""Opens the face of an installation with settings of one's own."""


@asynccontextmanager
async def opened_face(settings: Settings) -> AsyncIterator[OpenFace]:
    """A face on an existing catalog and storage, opened."""
    async with open_face(settings) as face:
        async with asyncio.timeout(20):
            await face.opened.wait()
        transport = httpx.ASGITransport(build(face), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            yield OpenFace(face, client)


class FaceProcess(WorkerProcess):
    """`media serve` as people run it."""

    def __init__(self, process: Started, url: str) -> None:
        super().__init__(process)
        self.url = url


def start_face(place: Workplace, *, ready: bool = True, **settings: str) -> FaceProcess:
    """Start `media serve` at that workplace, on a free port unless the settings say where."""
    address = settings.setdefault("MEDIA_HTTP_BIND", f"127.0.0.1:{free_port()}")
    settings.setdefault("MEDIA_HTTP_SECRET", SECRET)
    process = LoggedProcess(fork_server.commands(), ["media", "serve"], place.env(**settings), place.home)
    face = FaceProcess(process, f"http://{address}")
    place.workers.append(face)
    if ready:
        face.await_log("http_ready")
    return face


@contextmanager
def caller_of(face: FaceProcess, secret: str = "") -> Iterator[httpx.Client]:
    """A client of that process, with a key if there is one."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    transport = (
        httpx.HTTPTransport(uds=face.url.removeprefix("http://unix:")) if "unix:" in face.url else None
    )
    base = "http://localhost" if transport else face.url
    with httpx.Client(base_url=base, headers=headers, timeout=30, transport=transport) as client:
        yield client


async def new_secret(catalog_url: str, name: str = "app", scopes: str = "upload,read") -> str:
    """The secret of a new key in that catalog."""
    secret, key = new_key(name, scopes.split(","), None, None, 0)
    async with open_catalog(catalog_url, create=False) as catalog:
        assert await catalog.http_keys.add(key)
    return secret
