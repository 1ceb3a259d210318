"""Uploads over HTTP: a body becomes an original in the storage, and its event goes to the stream."""

import time
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated
from urllib.parse import unquote_to_bytes
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, Request, Response

from storage import keys
from storage.blobs import Space
from storage.catalog.records import State, Upload
from storage.errors import BlobRefused, KeyRefused, StorageError
from worker.http.access import Caller
from worker.http.announced import announced
from worker.http.bodies import Body, picture_in, refusal
from worker.http.documents import json_response, upload_of_event, upload_view
from worker.http.face import Face
from worker.http.incoming import Incoming
from worker.http.keys import folder_of_uploads
from worker.http.parameters import DirectRoute
from worker.http.problems import Problem
from worker.http.room import UploadRoom
from worker.http.storing import Stored, Storing
from worker.http.upload_docs import PUT, UPLOAD
from worker.http.upload_headers import (
    UploadDetails,
    Wording,
    differs,
    idempotency_key,
    preferred_wait_s,
    repr_digest,
)
from worker.http.waiting import settled
from worker.queue import QueueUnavailable
from worker.upload_ids import default_id


def routes(face: Face) -> APIRouter:
    """`POST /v1/uploads` and `PUT /v1/originals/...`."""
    router = APIRouter(tags=["uploads"], route_class=DirectRoute)
    uploads = face.shared(UploadIntake)
    may_upload = face.access.requires("upload", token=True)
    may_replace = face.access.requires("upload")

    @router.post("/v1/uploads", status_code=HTTPStatus.CREATED, **UPLOAD)
    async def upload(request: Request, caller: Annotated[Caller, Depends(may_upload)]) -> Response:
        """Upload a picture, as the body itself or as the field `file` of a form."""
        body = Body(request)
        try:
            return await uploads.add(request, body, caller)
        except Problem as problem:
            return refusal(problem, body)

    @router.put("/v1/originals/{path:path}", status_code=HTTPStatus.CREATED, **PUT)
    async def put(path: str, request: Request, caller: Annotated[Caller, Depends(may_replace)]) -> Response:
        """Put a picture under a path of one's own, in the place of what is there."""
        body = Body(request)
        try:
            return await uploads.put(request, body, caller, path)
        except Problem as problem:
            return refusal(problem, body)

    return router


@dataclass(frozen=True)
class UploadTaken:
    """An upload that is stored and announced."""

    stored: Stored
    about: UploadDetails
    known: Upload | None
    """As the catalog had it, if it was there before."""
    after_ms: int
    """When Redis took its event, by its clock."""

    @property
    def id(self) -> UUID:
        return default_id(self.stored.source)


class UploadIntake:
    """Takes uploads: first who, how much, what, and whether there is room; only then the bytes."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._room = UploadRoom(face.settings.http_uploads, face.settings.http_rate, self._space)
        self._wording = Wording(frozenset(face.settings.recipe_book))
        self._storing = Storing(lambda: face.stores.blobs)

    async def add(self, request: Request, body: Body, caller: Caller) -> Response:
        """Take an upload, and tell what it is. Raises: Problem, StorageError, QueueUnavailable."""
        return await self._answer(request, await self.take(request, body, caller))

    async def take(self, request: Request, body: Body, caller: Caller) -> UploadTaken:
        """Take an upload under a name of ours, once under a key of the caller's.

        Raises: Problem, StorageError, QueueUnavailable.
        """
        most = self._most_bytes(caller)
        incoming = self._incoming(request, body, most)
        key = idempotency_key(request)
        self._wording.read(request, {}, caller.token)
        name = uuid4() if key is None else _name_under(caller, key)
        is_token = caller.token is not None
        taken = self._room.taken(_sender(caller), body.length or most, is_token=is_token)
        async with taken, aclosing(incoming):
            await self._check_uses(caller, name)

            async def check(source: str) -> None:
                self._wording.read(request, incoming.sent.fields, caller.token)
                if key is not None:
                    await self._check_not_deleted(source)
                await self._use(caller, name)
                if key is None:  # else a retry finds what was stored, and announces it
                    await self._check_announces()
                else:
                    await self._claim(name, incoming.sha256)

            try:
                add = self._storing.add if key is None else self._storing.add_once
                stored = await add(incoming, folder_of_uploads(caller.owner, caller.prefix), name, check)
            except _WasDeleted as gone:
                stored = Stored(gone.source, is_new=False)
            except (StorageError, QueueUnavailable):
                if key is None:  # else it is counted for the retry
                    await self._give_back(caller, name)
                raise
            about = self._wording.read(request, incoming.sent.fields, caller.token)
            known = None if stored.is_new else await self._known(stored.source)
            if not stored.is_new:
                await self._check_same(about, stored.source, known)
            after_ms = 0 if known else await self._announce(about, stored.source, caller.owner)
        return UploadTaken(stored, about, known, after_ms)

    async def put(self, request: Request, body: Body, caller: Caller, path: str) -> Response:
        """Take an upload under that path, and announce it again.

        Raises: Problem, StorageError, QueueUnavailable.
        """
        source = f"{keys.UPLOADS}/{path}"
        if not caller.may_see(source, keys.owner_of_source(source)):
            folder = caller.prefix or f"{keys.UPLOADS}/{caller.owner}/"
            raise Problem("forbidden", f"The key puts originals below {folder} alone.")
        most = self._most_bytes(caller)
        incoming = self._incoming(request, body, most)
        _check_source(request, source)
        self._wording.read(request, {}, caller.token)
        async with self._room.taken(_sender(caller), body.length or most), aclosing(incoming):
            owner = await self._owner_of(source, caller)

            async def check(_source: str) -> None:
                self._wording.read(request, incoming.sent.fields, caller.token)
                await self._check_announces()  # or the old variants would stay with the new picture

            try:
                stored = await self._storing.replace(incoming, source, check)
            except BlobRefused as error:
                raise Problem("invalid_event", "There is a folder, or a file, in the way.") from error
            about = self._wording.read(request, incoming.sent.fields, caller.token)
            after_ms = await self._announce(about, source, owner)
        return await self._answer(request, UploadTaken(stored, about, None, after_ms))

    # -- before the body

    async def _space(self) -> Space | None:
        return await self._face.stores.blobs.space()

    def _most_bytes(self, caller: Caller) -> int:
        most = self._face.settings.max_source_bytes
        of_token = caller.token.max_bytes if caller.token else None
        return most if of_token is None else min(most, of_token)

    def _incoming(self, request: Request, body: Body, most: int) -> Incoming:
        if request.query_params:
            raise Problem("bad_request", "There are no parameters in the query: use headers.")
        sent = picture_in(request, body, most)
        return Incoming(sent, self._face.settings.formats, repr_digest(request))

    async def _owner_of(self, source: str, caller: Caller) -> str | None:
        """Whose the upload at `source` is to be. Raises: Problem (forbidden) where it is somebody else's."""
        upload = await self._face.reader.upload(default_id(source))
        if upload is None:
            return caller.owner
        if not caller.may_see(source, upload.owner):
            raise Problem("forbidden", "The upload under that path is of another owner than the key.")
        return upload.owner

    # -- how often a token may be used

    async def _check_uses(self, caller: Caller, name: UUID) -> None:
        token = caller.token
        if token is None or token.n is None:
            return
        if not await self._face.queue.token_uses.allows(token.digest, str(name), token.n):
            raise _used_up(token.n)

    async def _use(self, caller: Caller, name: UUID) -> None:
        token = caller.token
        if token is None or token.n is None:
            return
        uses = self._face.queue.token_uses
        if not await uses.use(token.digest, str(name), token.n, token.expires_at + _TOKEN_KEPT_S):
            raise _used_up(token.n)

    async def _give_back(self, caller: Caller, name: UUID) -> None:
        if caller.token is not None and caller.token.n is not None:
            await self._face.queue.token_uses.give_back(caller.token.digest, str(name))

    async def _claim(self, name: UUID, sha256: str) -> None:
        """Have one picture of that name at a time. Raises: Problem where another process stores another."""
        with suppress(QueueUnavailable):  # then none is announced, and the retries compare their bytes
            if not await self._face.queue.upload_names.claim(str(name), sha256):
                raise differs()

    async def _check_not_deleted(self, source: str) -> None:
        """Raises: _WasDeleted: a retry does not bring back what was deleted meanwhile."""
        known = await self._known(source)
        if known is not None and known.state in _GONE:
            raise _WasDeleted(source)

    # -- after the body

    async def _check_same(self, about: UploadDetails, source: str, known: Upload | None) -> None:
        """Check that a retry says what the first one said. Raises: Problem, QueueUnavailable."""
        first = known or await announced(self._face, default_id(source))
        if first is None or first.state in _GONE:  # whose metadata are forgotten
            return
        if (first.recipe, first.metadata) != (about.recipe, about.metadata):
            raise differs("with another recipe or other metadata")

    async def _check_announces(self) -> None:
        """Check that Redis answers, and that the stream is ours. Raises: QueueUnavailable."""
        await self._face.queue.ownership.check_not_of_another(self._face.stores.catalog.id)

    async def _announce(self, about: UploadDetails, source: str, owner: str | None) -> int:
        """Send the event; returns when Redis took it, in ms by its clock. Raises: QueueUnavailable."""
        await self._check_announces()
        said = None if owner == keys.owner_of_source(source) else owner
        entry = await self._face.queue.announced.add(default_id(source), about.event(source, said))
        return int(entry.partition("-")[0])

    async def _known(self, source: str) -> Upload | None:
        """The upload as the catalog knows it; None also where nobody can say: its event is sent again."""
        try:
            return await self._face.reader.upload(default_id(source))
        except StorageError:
            return None

    async def _answer(self, request: Request, taken: UploadTaken) -> Response:
        stored, known, after_ms = taken.stored, taken.known, taken.after_ms
        wait_s = preferred_wait_s(request)
        if wait_s:
            known = await self._settled(stored.source, after_ms, wait_s) or known
        if known is None or known.event_ms < after_ms:
            known = upload_of_event(taken.about.event(stored.source, None), after_ms)
        headers = {"Location": self._face.links.of_upload(known.id)}
        if wait_s is not None:
            headers["Preference-Applied"] = f"wait={wait_s}"
        status = HTTPStatus.CREATED if stored.is_new else HTTPStatus.OK
        return json_response(upload_view(known, self._face.links), status.value, headers)

    async def _settled(self, source: str, after_ms: int, within_s: float) -> Upload | None:
        """The upload once its event of that time is done, or as it is once the time is over."""
        until = time.monotonic() + within_s
        upload_id = default_id(source)
        try:
            with self._face.tail.subscribed(upload_id) as subscription:
                while True:
                    left = max(0.0, until - time.monotonic())
                    upload = await settled(self._face, upload_id, left)
                    is_old = upload is not None and upload.event_ms < after_ms
                    if not is_old or not left or self._face.stopping.is_set():
                        return upload
                    await subscription.news(left)
        except StorageError:  # the upload was taken all the same
            return None


class _WasDeleted(Exception):
    """What is sent once more was deleted since."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.source = source


_GONE = (State.DELETING, State.DELETED)
_TOKEN_KEPT_S = 60  # after it has expired, because clocks differ


def _sender(caller: Caller) -> str:
    return caller.name if caller.token is None else caller.token.digest


def _name_under(caller: Caller, key: str) -> UUID:
    """The same name for the same key of the same caller."""
    kind = "key" if caller.token is None else "token"
    return uuid5(NAMESPACE_URL, f"media-http:{kind}:{_sender(caller)}:{key}")


def _check_source(request: Request, source: str) -> None:
    try:
        unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
        keys.source_key(source)
    except UnicodeDecodeError as error:
        raise Problem("invalid_event", "source must be valid UTF-8") from error
    except KeyRefused as error:
        raise Problem("invalid_event", str(error)) from error


def _used_up(most: int) -> Problem:
    return Problem("forbidden", f"The token has been used for {most} uploads, which is all that it allows.")
