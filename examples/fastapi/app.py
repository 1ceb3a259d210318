"""A gallery: browsers upload straight to `media serve`, with tokens, and hear by SSE what becomes of it."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

URL = os.environ["URL"]  # of `media serve`, for this app and for browsers
KEY = os.environ["KEY"]  # of the scopes upload and read

media = httpx.AsyncClient(base_url=URL, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
database = sqlite3.connect(os.environ.get("DATABASE", "gallery.db"), isolation_level=None)
database.execute("create table if not exists pictures (id primary key, user, seq, message)")
news = asyncio.Condition()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    following = asyncio.create_task(follow())
    yield
    following.cancel()


app = FastAPI(lifespan=lifespan)


async def follow() -> None:
    """Keep what becomes of uploads, from the last message on: none is missed while the app is down."""
    while True:
        [last] = database.execute("select coalesce(max(seq), 0) from pictures").fetchone()
        try:
            async with media.stream("GET", "/v1/events", headers={"Last-Event-ID": str(last)}) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        await keep(json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError:
            await asyncio.sleep(2)


async def keep(message: dict[str, Any]) -> None:
    """Write the newest message of an upload. What comes again changes nothing."""
    if message.get("type") not in ("upload.ready", "upload.failed", "upload.deleted") or not message["id"]:
        return
    user = message["metadata"].get("user")  # as the token says
    async with news:
        database.execute(
            "insert into pictures values (?, ?, ?, ?) on conflict (id) do update"
            " set seq = excluded.seq, message = excluded.message where seq < excluded.seq",
            (message["id"], user, message["seq"], json.dumps(message)),
        )
        news.notify_all()


async def user(request: Request, response: Response) -> str:
    """Who asks. This is where your login goes: here each browser is somebody, without a password."""
    known = request.cookies.get("user") or str(uuid4())
    response.set_cookie("user", known, httponly=True, samesite="lax")
    return known


User = Annotated[str, Depends(user)]


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.get("/limits")
async def limits(user: User) -> dict[str, Any]:
    """What the form tells before anybody waits for a refusal."""
    told = (await media.get("/v1/limits")).raise_for_status().json()
    return {"media": URL, "max_bytes": told["max_bytes"], "formats": told["formats"]}


@app.post("/token")
async def token(user: User) -> dict[str, str]:
    """A token for one upload, of this user: the browser cannot say that it is another's."""
    wanted = {"count": 1, "metadata": {"user": user}}
    made = (await media.post("/v1/tokens", json=wanted)).raise_for_status().json()
    return {"token": made["token"]}


@app.get("/pictures")
async def pictures(user: User) -> list[dict[str, Any]]:
    """The newest pictures of this user."""
    newest = "select message from pictures where user = ? order by seq desc limit 100"
    rows = database.execute(newest, (user,))
    messages = [json.loads(message) for (message,) in rows]
    return [message for message in messages if message["type"] == "upload.ready"]


@app.get("/pictures/{id}/events")
async def events(id: UUID, user: User) -> StreamingResponse:
    """What becomes of an upload: at once if it is known already, else as soon as it is."""

    def known() -> str | None:
        mine = "select message from pictures where id = ? and user = ?"
        row = database.execute(mine, (str(id), user)).fetchone()
        return row[0] if row else None

    async def stream() -> AsyncIterator[str]:
        while (message := known()) is None:
            yield ": it waits\n\n"  # ends the stream of a browser that has gone
            with suppress(TimeoutError):
                async with asyncio.timeout(15), news:
                    await news.wait_for(known)
        yield f"data: {message}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
