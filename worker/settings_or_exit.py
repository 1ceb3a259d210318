"""The settings of a program that ends where they are wrong."""

from worker.settings import Settings, SettingsError
from worker.standard_error import say


def load_or_exit() -> Settings:
    """Return the settings; print every mistake in them on standard error and exit with 2."""
    try:
        return Settings.load()
    except SettingsError as error:
        say(f"Invalid settings:\n{error}")
        raise SystemExit(2) from error
