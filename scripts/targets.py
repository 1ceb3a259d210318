"""What the commands that move an installation share: the option --to, and that no worker runs."""

from pydantic import ValidationError

from scripts.terminal import CommandError, counted
from worker.queue import open_queue
from worker.settings import Settings


def with_target(settings: Settings, field: str, url: str) -> Settings:
    """The settings, with `url` in that field. Raises: CommandError."""
    try:
        return Settings.model_validate({**settings.model_dump(), field: url})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise CommandError(f"--to: {reason}", code=2) from error


async def require_no_worker(settings: Settings) -> None:
    """Raises: CommandError while a worker sends heartbeats, QueueUnavailable."""
    async with open_queue(settings) as queue:
        if living := len(await queue.heartbeats.living()):
            raise CommandError(f"{counted(living, 'worker')} may still write: stop every worker first.")
