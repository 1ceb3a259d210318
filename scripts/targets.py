"""What commands share that do something to another place than the settings name, or need all workers gone."""

from typing import TYPE_CHECKING

from scripts.terminal import CommandError
from worker.amounts import counted

if TYPE_CHECKING:
    from worker.settings import Settings


def with_target(settings: "Settings", field: str, url: str) -> "Settings":
    """The settings, with `url` in that field. Raises: CommandError."""
    return with_setting(settings, field, url, option="--to")


def with_setting(settings: "Settings", field: str, value: str, *, option: str) -> "Settings":
    """The settings, with the value that an option gives in that field. Raises: CommandError."""
    from pydantic import ValidationError

    from worker.settings import Settings

    try:
        return Settings.model_validate({**settings.model_dump(), field: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise CommandError(f"{option}: {reason}", code=2) from error


async def require_no_worker(settings: "Settings") -> None:
    """Raises: CommandError while a worker sends heartbeats, QueueUnavailable."""
    from worker.queue import open_queue

    async with open_queue(settings) as queue:
        if living := len(await queue.heartbeats.living()):
            raise CommandError(f"{counted(living, 'worker')} may still write: stop every worker first.")
