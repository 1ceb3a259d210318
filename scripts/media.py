"""The command `media`: names its subcommands, and imports only the one that runs.

What a command works with it imports when it runs, for its help needs none of that.
"""

import os
import sys
from importlib import import_module
from typing import Annotated

import typer

COMMANDS = {
    "demo": "Run everything on real pictures: a Redis and a worker of its own, a contact sheet.",
    "worker": "Run a worker; it waits for servers that are unreachable.",
    "serve": "Serve uploads, status, progress, files and the console over HTTP.",
    "keys": "Make, list and revoke the keys of the HTTP server.",
    "health": "Say whether the worker here lives, or takes work.",
    "enqueue": "Copy pictures to the storage root and enqueue them.",
    "show": "Show one upload.",
    "events": "Print the messages about uploads.",
    "webhooks": "List what an endpoint has not taken, or send messages to it again.",
    "stats": "Report stored files, queue depth and drift.",
    "sweep": "Compare files and records, and tidy up.",
    "reprocess": "Queue uploads again, beside live ones.",
    "rebuild": "Make a new catalog for an existing storage root.",
    "failed": "List, retry or discard failed uploads and dead letters.",
    "backup": "Copy the catalog, and new originals, while workers go on.",
    "restore": "Put a copy in the place of the catalog, with what happened since.",
    "migrate": "Bring the catalog to this version's schema, or back.",
    "migrate-catalog": "Move the catalog to another database.",
    "copy-blobs": "Copy the storage to another place, and move there.",
    "listen": "Announce what is put into a bucket.",
    "stream": "Begin the stream of events anew.",
    "doctor": "Check Redis, catalog, storage and decoders, and say what to do.",
}
_MODULES = {"stats": "storage_stats", "copy-blobs": "copy_blobs", "migrate-catalog": "migrate_catalog"}


def main() -> None:
    """Run the command line."""
    try:
        build(sys.argv[1:])(prog_name="media")
    except KeyboardInterrupt:  # while it was still importing
        sys.exit(130)


def build(arguments: list[str]) -> typer.Typer:
    """The command line with the subcommand that `arguments` name, or with the names of all for the help."""
    app = typer.Typer(
        name="media",
        help="Turn uploaded pictures into variants.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    named = next((word for word in arguments if word in COMMANDS), None)
    completing = "_MEDIA_COMPLETE" in os.environ  # its words are in another variable
    for name in COMMANDS if named is None else (named,):
        if named is None and not completing:
            app.command(name, help=COMMANDS[name])(lambda: None)  # only a line in the help
            continue
        module = import_module(f"scripts.{_MODULES.get(name, name)}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, help=COMMANDS[name])
        else:
            app.command(name, help=COMMANDS[name])(module.command)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # with parsers of zip files and of e-mail

        print(version("media-worker"))  # noqa: T201
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
