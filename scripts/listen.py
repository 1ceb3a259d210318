"""`media listen`: takes the notifications of a bucket from a queue, and sends the events that apps would."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from scripts.terminal import AsJson, CommandError, print_json, run
from storage.errors import lacking

if TYPE_CHECKING:
    from worker.settings import Settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("sqs")
def sqs(
    queue_url: Annotated[str, typer.Argument(help="The queue to which the bucket sends its notifications.")],
    once: Annotated[bool, typer.Option("--once", help="End as soon as the queue is empty.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send an event for each original that is put into the bucket of MEDIA_STORAGE_URL, until SIGTERM."""

    async def body(settings: "Settings") -> None:
        from storage.blobs.opening import read_owner  # the help is shown without a bucket
        from storage.blobs.s3_place import is_s3, parse_s3
        from worker.logs import configure_logs
        from worker.queue import open_queue

        if not is_s3(settings.storage_url):
            raise CommandError(
                "MEDIA_STORAGE_URL names no bucket, and folders send no notifications.", code=2
            )
        place = parse_s3(settings.storage_url)
        try:
            from worker.sqs import SqsListener, SqsQueue, SqsUnavailable
        except ImportError as error:
            raise CommandError(f"SQS {lacking('sqs')}", code=2) from error
        configure_logs(settings.log)
        try:
            async with open_queue(settings, must_answer=once) as queue:
                owner = partial(read_owner, settings.storage_url)
                listener = SqsListener(SqsQueue(queue_url), queue, place.bucket, place.prefix, owner)
                if not once:
                    await listener.run()
                await listener.check_stream()
                while await listener.step():
                    pass
        except SqsUnavailable as error:
            raise CommandError(f"SQS: {error}") from error
        if as_json:
            print_json({"sent": listener.sent, "foreign": listener.foreign})

    run(body)
