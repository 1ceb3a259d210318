"""Settings as an operator writes them: the one place that turns a setting back into its variable's text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.queue.url import shown_url
from worker.settings import Settings, variable
from worker.webhooks.signing import shown_endpoint

SET = "set"  # in the place of a secret


@dataclass(frozen=True)
class ShownSetting:
    """A setting as others may see it; `value` is empty where there is none, and never a secret."""

    variable: str
    value: str
    is_set: bool
    """Whether somebody has given it a value; otherwise it is the default."""
    description: str


def environment(settings: Settings) -> Mapping[str, str]:
    """The variables that make `settings`; those that are not set are left out."""
    values = settings.model_dump()
    return {variable(name): written(value) for name, value in values.items() if value is not None}


def written(value: object) -> str:
    """A setting's value as the text of its variable: 0 and 1 for booleans, commas in lists."""
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)


def shown_settings(settings: Settings) -> Sequence[ShownSetting]:
    """All settings, without the secrets that some of them are or hold."""
    return [
        ShownSetting(
            variable(name), _shown(settings, name), name in settings.model_fields_set, field.description or ""
        )
        for name, field in Settings.model_fields.items()
    ]


def _shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if value is None or value == "":
        return ""
    match name:
        case "redis_url":
            return shown_url(value)
        case "catalog_url":
            return settings.catalog_name
        case "catalog_read_url":
            return settings.catalog_read.name if settings.catalog_read else ""
        case "storage_url":
            return settings.storage
        case "webhook_url":
            return shown_endpoint(value)
    return written(value) if Settings.model_fields[name].repr else SET
