"""`media webhooks`: what endpoints have not taken, and how messages are sent to one again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.moments import precise_moment
from scripts.reprocess import moment_ms
from scripts.terminal import AsJson, CommandError, output, print_error, print_json, run, safe, table
from worker.amounts import counted

if TYPE_CHECKING:
    from storage.catalog.webhooks import Delivery
    from worker.settings import Settings
    from worker.webhooks.listing import WebhookReport

app = typer.Typer(no_args_is_help=True)

_LONGEST = 40  # characters of a time
_LAST_SEQ = 2**63 - 1
_COLUMNS = {
    "#seq": "seq",
    "made": "time",
    "upload": "id",
    "#attempts": "attempts",
    "next try": "next_try",
    "problem": "problem",
}


@app.command("list")
def list_webhooks(
    limit: Annotated[
        int, typer.Option(min=1, help="At most this many that wait, and that were given up.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Say how each endpoint does, which messages wait for it, and which were given up."""

    async def body(settings: "Settings") -> None:
        from storage.catalog.database import open_database  # the help is shown without a catalog
        from storage.catalog.webhooks import Webhooks
        from worker.webhooks.listing import report_document, report_webhooks

        async with open_database(settings.catalog, create=False, migrate=False) as database:
            reports = await report_webhooks(Webhooks(database), settings, limit)
        if as_json:
            print_json(report_document(reports))
        elif not reports:
            output.print(
                "No worker has delivered webhooks yet: set MEDIA_WEBHOOK_URL and MEDIA_WEBHOOK_SECRET."
            )
        for number, report in enumerate(reports if not as_json else ()):
            if number:
                output.print()
            _print(report)

    run(body)


@app.command("replay")
def replay_webhooks(
    since: Annotated[
        str,
        typer.Option(
            metavar="SEQ|TIME",
            help="Messages after this seq; or made since a date, a time, or a span such as 10m, 36h or 7d.",
        ),
    ],
    endpoint: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where there are several: to which, such as default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send messages of the last 7 days to an endpoint again, in their order, also those that were given up.

    New ones follow behind them. A worker that has the endpoint in its settings sends them.
    """

    async def body(settings: "Settings") -> int:
        from storage.catalog.database import open_database
        from storage.catalog.webhooks import Webhooks
        from worker.webhooks.listing import webhooks_to

        async with open_database(settings.catalog, create=False, migrate=False) as database:
            seq, webhooks = _seq_of(since), Webhooks(database)
            made_ms = max(0, moment_ms(since)) if seq is None else 0
            name = _chosen(endpoint, await webhooks.endpoints(), settings)
            webhooks = webhooks_to(webhooks, settings, name)
            if seq is None:
                seq = await webhooks.seq_before(made_ms)
            count = await webhooks.replay(seq)
        if as_json:
            print_json({"endpoint": name, "since": seq, "messages": count})
        else:
            output.print(f"{counted(count, 'message')} after seq {seq} will be sent to {name} again.")
        if name not in settings.further_endpoints and not settings.webhook_url:
            print_error("MEDIA_WEBHOOK_URL is not set here: only a worker that has it sends them.")
        return 0

    run(body)


def _chosen(name: str | None, there: "Sequence[str]", settings: "Settings") -> str:
    """The endpoint that is meant, whose messages the settings tell. Raises: CommandError."""
    from storage.catalog.webhooks import DEFAULT

    if not there:
        raise CommandError(
            "No worker has delivered webhooks yet: there is nothing to send again. Set MEDIA_WEBHOOK_URL and "
            "MEDIA_WEBHOOK_SECRET."
        )
    known = [one for one in there if one == DEFAULT or one in settings.further_endpoints]
    names = ", ".join(known or there)
    if name is None:
        if len(known) == 1:
            return known[0]
        raise CommandError(f"There are several endpoints; name one by --endpoint: {names}.", code=2)
    if name not in there:
        raise CommandError(f"No worker has had that endpoint; there are {names}.", code=2)
    if name not in known:
        raise CommandError(f"{name} is not in MEDIA_WEBHOOK_ENDPOINTS here, which says what it is sent.")
    return name


def _seq_of(text: str) -> int | None:
    """The seq that this is, if it is no time. Raises: CommandError."""
    if len(text) > _LONGEST:
        raise CommandError(f"--since is at most {_LONGEST} characters long.", code=2)
    if not text.isdecimal():
        return None
    if (seq := int(text)) > _LAST_SEQ:
        raise CommandError(f"No message has the seq {text}.", code=2)
    return seq


def _print(report: "WebhookReport") -> None:
    backlog = report.backlog
    output.print(f"The endpoint {report.name} {report.word}.")
    if report.url is None:
        last = f"; a worker noted it last at {precise_moment(report.used_ms)}" if report.used_ms else ""
        output.print(f"It is not in the settings here{last}.")
    if report.problem:
        output.print(f"The last attempt failed: {safe(report.problem)}")
    behind = f", and {backlog.behind} more follow" if backlog.behind else ""
    output.print(f"{counted(backlog.waiting, 'message')} wait{'s' if backlog.waiting == 1 else ''}{behind}.")
    _print_some("Waiting", report.waiting, backlog.waiting)
    _print_some("Given up; media webhooks replay sends them again", report.given_up, backlog.given_up)


def _print_some(title: str, some: "Sequence[Delivery]", total: int) -> None:
    from worker.webhooks.listing import delivery_document

    if not some:
        return
    rows = [[delivery_document(one)[field] for field in _COLUMNS.values()] for one in some]
    output.print(table(title, list(_COLUMNS), rows))
    if total > len(some):
        output.print(f"… and {total - len(some)} more; see --limit.")
