"""What stands at a Redis' port and says always the same: a server of a few lines, in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class FakeRedis:
    """Where it listens, how many connections it has had, the commands, and whether there was any."""

    connections: int = 0
    commands: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    port: int = 0

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def saying(
    answer: bytes | None, others: Mapping[str, bytes] | None = None, *, closes: bool = False
) -> AsyncIterator[FakeRedis]:
    """One that answers each command with `answer` (None: not at all), but for `others` by their first word.

    `closes`: it says that once, and closes the connection.
    """
    fake = FakeRedis()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake.connections += 1
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while word := await _command(reader):
                fake.commands.append(word)
                fake.asked.set()
                said = (others or {}).get(word, answer)
                if said is not None:
                    writer.write(said)
                if closes:
                    break
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        fake.port = server.sockets[0].getsockname()[1]
        yield fake


async def _command(reader: asyncio.StreamReader) -> str:
    """The first word of the next command; empty at the end."""
    words = []
    for _ in range(int((await reader.readline() or b"*0")[1:])):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words[0].decode().upper() if words else ""
