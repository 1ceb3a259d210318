"""`media serve`: the HTTP server."""

from typing import TYPE_CHECKING, Annotated

import typer

from scripts.terminal import CommandError, run
from storage.errors import lacking

if TYPE_CHECKING:
    from worker.settings import Settings

_NO_KEYS = (
    "{bind} is reached by {others}, and there is no key yet: make one (media keys new NAME), or listen on "
    "127.0.0.1, which needs none."
)


def command(
    bind: Annotated[
        str | None, typer.Option(help="HOST:PORT or unix:PATH; otherwise what MEDIA_HTTP_BIND says.")
    ] = None,
) -> None:
    """Serve uploads, status, lists, progress, files and the console over HTTP until SIGTERM or Ctrl-C."""

    async def body(settings: "Settings") -> None:
        from scripts.targets import with_setting  # the help is shown without a server
        from worker.listening import CannotListen
        from worker.settings import SettingsError

        if bind is not None:
            settings = with_setting(settings, "http_bind", bind, option="--bind")
        try:
            from worker.http.server import KeysMissing, serve
        except ImportError as error:
            raise CommandError(f"HTTP {lacking('http')}", code=2) from error
        try:
            await serve(settings)
        except KeysMissing as error:
            no_keys = _NO_KEYS.format(bind=settings.http_bind, others=settings.http_reached_by)
            raise SettingsError(f"MEDIA_HTTP_BIND: {no_keys}") from error
        except CannotListen as error:
            raise CommandError(str(error), code=2) from error

    run(body)
