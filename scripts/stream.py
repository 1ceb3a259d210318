"""`media stream`: begins the stream of events anew, where its IDs lie in the future."""

from typing import TYPE_CHECKING, Annotated

import typer

from scripts.terminal import AsJson, CommandError, output, print_json, run

if TYPE_CHECKING:
    from worker.settings import Settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("reset")
def reset(
    discard: Annotated[
        bool, typer.Option("--discard", help="Also if events wait in it; they are lost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the stream and begin it anew, with IDs that follow the clock. Workers may keep running."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.opening import open_catalog  # the help is shown without a catalog
        from worker.queue import open_queue

        async with open_catalog(settings.catalog, create=False) as catalog, open_queue(settings) as queue:
            await queue.ownership.check_not_of_another(catalog.id)
            waiting = await queue.stream.depth()
            # Before the stream: what comes into the new one must be newer than all that was taken.
            on_apps = await queue.apps.depth()
            epoch = await catalog.epochs.begin((await catalog.epochs.current()).number)
            if not await queue.stream.reset(even_with_entries=discard):
                raise CommandError(
                    f"{await queue.stream.depth()} events wait in {queue.stream.name}: let a worker take "
                    "them first, or discard them with --discard."
                )
        if as_json:
            print_json(
                {"stream": settings.stream, "epoch": epoch, "discarded": waiting, "on_app_streams": on_apps}
            )
        else:
            output.print(f"{settings.stream} begins anew.")
            if on_apps:
                output.print(f"{on_apps} more wait on the streams of apps, and stay.")

    run(body)
