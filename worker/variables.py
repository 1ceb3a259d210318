"""Settings as an operator writes them: the one place that turns a setting back into its variable's text."""

from collections.abc import Mapping

from worker.settings import Settings, variable


def environment(settings: Settings) -> Mapping[str, str]:
    """The variables that make `settings`; those that are not set are left out."""
    values = settings.model_dump()
    return {variable(name): written(value) for name, value in values.items() if value is not None}


def written(value: object) -> str:
    """A setting's value as the text of its variable: 0 and 1 for booleans, commas in lists."""
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)
