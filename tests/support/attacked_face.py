"""A server that is attacked: two tenants, secrets in all that can hold one, and files outside the storage."""

import asyncio
import json
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from storage.catalog.opening import open_catalog
from tests.support.attacks import Attack
from tests.support.attacks.bodies import MOST
from tests.support.attacks.callers import GOOD
from tests.support.attacks.pictures import png
from tests.support.face import SECRET, caller_of, start_face
from tests.support.processes import proportional_kib
from tests.support.workplace import Workplace, eventually
from worker.http.keys import digest_of, new_key

_WITHIN_S = 10.0
_KEYS: Mapping[str, tuple[str, str | None]] = {
    "ALICE": ("upload,read,operate,originals", "alice"),
    "BOB": ("upload,read,operate,originals", "bob"),
    "FULL": ("upload,read,operate,originals", None),
    "READER": ("read", None),
    "REVOKED": ("upload,read,operate,originals", None),
}


@dataclass(frozen=True)
class Reply:
    """What came back, as its bytes; nothing where the connection was closed without a word."""

    whole: bytes

    @property
    def head(self) -> bytes:
        return self.whole.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.whole.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> str:
        found = re.match(rb"HTTP/1\.1 (\d{3}) ", self.whole)
        return found[1].decode() if found else "none"

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def code(self) -> str:
        """The code of a problem, or of the frame that closed a WebSocket."""
        if self.status == "101":
            return _code_of_close(self.body)
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(json.loads(self.body)["code"])


class AttackedFace:
    """The server, and what an attacker must not learn or touch."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.outside = f"canary-{secrets.token_hex(16)}"
        self.of_bob = f"canary-{secrets.token_hex(16)}"
        self.secrets = [SECRET, GOOD, *self._passwords()]
        self._put_outside()
        worker = place.start()
        keys = asyncio.run(self._new_keys())
        self.secrets += keys.values()
        self.face = start_face(
            place,
            MEDIA_MAX_SOURCE_BYTES=str(MOST),
            MEDIA_HTTP_FILES="signed",
        )
        self.values = self._tenants(keys)
        worker.stop()

    def _put_outside(self) -> None:
        folder = self.place.home / "outside"
        folder.mkdir()
        for name in ("canary.txt", "canary.txt.jpg", "plan.json"):
            (folder / name).write_text(self.outside)
        link = self.place.root / "uploads" / "alice" / "link"
        link.parent.mkdir(parents=True)
        link.symlink_to(folder)

    def _passwords(self) -> list[str]:
        """Those of Redis, of the catalog and of the bucket, where there are some."""
        settings = {**self.place.database.settings, **self.place.storage.settings}
        urls = self.place.redis_url, settings["MEDIA_CATALOG_URL"]
        told = [*(urlsplit(url).password for url in urls), settings.get("AWS_SECRET_ACCESS_KEY")]
        return [password for password in told if password]

    async def _new_keys(self) -> dict[str, str]:
        made: dict[str, str] = {}
        async with open_catalog(self.place.database.settings["MEDIA_CATALOG_URL"]) as catalog:
            for name, (scopes, owner) in _KEYS.items():
                made[name], key = new_key(name.lower(), scopes.split(","), owner, None, 0)
                assert await catalog.http_keys.add(key)
            assert await catalog.http_keys.revoke("revoked")
        return made

    def _tenants(self, keys: Mapping[str, str]) -> Mapping[str, str]:
        """What the places in attacks stand for."""
        bobs = [
            self._ready(keys["BOB"], {"Media-Metadata": json.dumps({"canary": self.of_bob})}) for _ in "12"
        ]
        bob, alice = bobs[0], self._ready(keys["ALICE"], {})
        with caller_of(self.face, keys["BOB"]) as client:
            cursor = client.get("/v1/uploads", params={"limit": 1}).json()["next"]
            failed = self._upload(
                client, b"\xff\xd8\xff\xe0" + self.of_bob.encode(), {"Idempotency-Key": "bobs-key"}
            )
            assert failed["state"] == "failed"
        signed = {
            name: urlsplit(each["variants"][0]["url"]) for name, each in (("ALICE", alice), ("BOB", bob))
        }
        self.signatures = [link.query.partition("signature=")[2] for link in signed.values()]
        self.variant = signed["ALICE"].path.removeprefix("/files/")
        return {
            **keys,
            "HOST": urlsplit(self.face.url).netloc,
            "TOKEN": GOOD,
            "CUT": keys["ALICE"][:-1],
            "LOUD": keys["ALICE"].upper(),
            "ALICE_REST": keys["ALICE"].removeprefix("mw_"),
            "DIGEST": digest_of(keys["ALICE"]),
            "ALICE_ID": alice["id"],
            "ALICE_VARIANT": self.variant,
            "SIGNED": signed["ALICE"].query,
            "SIGNATURE": signed["ALICE"].query.partition("&")[2],
            "SIGNED_BOB": signed["BOB"].query,
            "BOB_ID": bob["id"],
            "BOB_FAILED": failed["id"],
            "BOB_SOURCE": bob["source"],
            "BOB_PATH": bob["source"].removeprefix("uploads/"),
            "BOB_VARIANT": signed["BOB"].path.removeprefix("/files/"),
            "BOB_CURSOR": cursor,
        }

    def _ready(self, key: str, headers: Mapping[str, str]) -> dict[str, Any]:
        with caller_of(self.face, key) as client:
            upload = self._upload(client, png(self.of_bob.encode()), headers)
        assert upload["state"] == "ready", upload
        return upload

    @staticmethod
    def _upload(client: httpx.Client, content: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        headers = {"Content-Type": "image/png", "Prefer": "wait=20", **headers}
        answer = client.post("/v1/uploads", content=content, headers=headers)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    # -- attacks

    def strike(self, attack: Attack) -> Reply:
        """Send it on a connection of its own; what comes back."""
        host, _, port = self.values["HOST"].rpartition(":")
        received = bytearray()
        with socket.create_connection((host, int(port)), _WITHIN_S) as connection, suppress(OSError):
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(attack.bytes_with(self.values))
                if attack.then_leaves:
                    connection.shutdown(socket.SHUT_WR)
            unsent = attack.then
            while not _is_whole(bytes(received), attack) and (part := connection.recv(65_536)):
                received += part
                connection.sendall(unsent)
                unsent = b""
        return Reply(bytes(received))

    # -- what is left

    def tree(self) -> Mapping[str, bytes | None]:
        """All files, links not followed, but for those of the catalog; and what is in the storage."""
        home, root = self.place.home, self.place.root
        files = [path for path in home.rglob("*") if path.is_file() and not path.is_relative_to(root)]
        keys = sorted(self.place.storage.keys(""))
        return {
            **{path.name: path.read_bytes() for path in files if not path.name.startswith("catalog.db")},
            **dict(zip(keys, self.place.storage.contents(keys), strict=True)),
        }

    def descriptors(self) -> int:
        """Descriptors that the server has open."""
        return len(list(Path(f"/proc/{self.face.pid}/fd").iterdir()))

    def memory_mib(self) -> float:
        """Memory of the server."""
        return proportional_kib([self.face.pid]) / 1024

    def await_silence(self, descriptors: int) -> int:
        """Descriptors of the server once it has closed those of connections that are gone."""
        with suppress(AssertionError):
            eventually(lambda: self.descriptors() <= descriptors, 15)
        return self.descriptors()


def _is_whole(received: bytes, attack: Attack) -> bool:
    """Whether all of an answer is there, as its head says."""
    reply = Reply(received)
    if b"\r\n\r\n" not in received or attack.then_leaves:
        return False
    if reply.status == "101":
        return bool(_code_of_close(reply.body))
    if reply.status in ("204", "304") or attack.line.startswith("HEAD"):
        return True
    if reply.headers.get("transfer-encoding") == "chunked":
        return received.endswith(b"0\r\n\r\n")
    return len(reply.body) >= int(reply.headers.get("content-length", "-1")) >= 0


def _code_of_close(frames: bytes) -> str:
    """Of the frame that closes: the code before the colon of its reason, or its number."""
    while len(frames) >= 2:
        size, start = frames[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(frames[2:4]), 4
        if frames[0] & 0x0F == 8 and len(frames) >= start + size >= 4:
            number, reason = int.from_bytes(frames[start : start + 2]), frames[start + 2 : start + size]
            code, colon, _ = reason.decode().partition(": ")
            return code if colon and code.isidentifier() else str(number)
        frames = frames[start + size :]
    return ""
