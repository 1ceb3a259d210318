"""The option --to of the commands that move an installation: a URL, checked as the setting would be."""

from pydantic import ValidationError

from scripts.terminal import CommandError
from worker.settings import Settings


def with_target(settings: Settings, field: str, url: str) -> Settings:
    """The settings, with `url` in that field. Raises: CommandError."""
    try:
        return Settings.model_validate({**settings.model_dump(), field: url})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise CommandError(f"--to: {reason}", code=2) from error
