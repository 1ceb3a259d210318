"""`media sweep`: plans what is to be tidied, and does it only when it is told to."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import typer

from pipelines.sweep import trash
from pipelines.sweep.applying import apply_plan
from pipelines.sweep.plan import Plan, PlanUnknown
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper, SweepRefused
from scripts.terminal import AsJson, CommandError, output, print_json, run, size, table
from worker.app import open_stores
from worker.queue import open_queue
from worker.settings import Settings
from worker.sweeping import forbidden, sweeper_of

app = typer.Typer(invoke_without_command=True)

_MEANING = {
    "orphan": "files that no record knows: moved to trash/",
    "missing": "records whose file is gone: made again",
    "leftover": "unfinished writes: removed",
    "retired": "superseded variants whose time is over: removed",
    "unknown": "names that are not ours: left alone",
}


@app.callback()
def sweep(
    context: typer.Context,
    apply: Annotated[bool, typer.Option("--apply", help="Do what the new plan says.")] = False,
    force: Annotated[
        str | None,
        typer.Option(metavar="PLAN", help="Apply an implausible plan, after a look at it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare files and records, and write a plan; with --apply, carry it out."""
    if context.invoked_subcommand is not None:
        return

    async def body(sweeper: Sweeper) -> int:
        if force is not None:
            done = await apply_plan(force, sweeper, force=True)
            _tell({"plan": force, "done": done}, f"Plan {force} is applied.", done, as_json=as_json)
            return 0
        plan = await make_plan(sweeper)
        done = await apply_plan(plan.id, sweeper) if apply and plan.counts and not plan.stopped else {}
        if as_json:
            print_json({**_facts(plan), "done": done})
        else:
            _print(plan, done, applied=apply)
        return 1 if plan.stopped else 0

    _with_sweeper(body, deletes=apply or force is not None)


@app.command("restore")
def restore(plan: Annotated[str, typer.Argument(metavar="PLAN")], as_json: AsJson = False) -> None:
    """Put back everything that a plan has moved to the trash."""

    async def body(sweeper: Sweeper) -> int:
        restored = await trash.restore(plan, sweeper)
        _tell({"plan": plan, "restored": restored}, f"{restored} files are back.", {}, as_json=as_json)
        return 0

    _with_sweeper(body)


@app.command("purge")
def purge(as_json: AsJson = False) -> None:
    """Remove for good what has lain in the trash for longer than MEDIA_RETENTION."""

    async def body(sweeper: Sweeper) -> int:
        done = await trash.purge(sweeper)
        _tell({"done": done}, "Purged.", done, as_json=as_json)
        return 0

    _with_sweeper(body, deletes=True)


def _with_sweeper(body: Callable[[Sweeper], Awaitable[int]], *, deletes: bool = False) -> None:
    async def opened(settings: Settings) -> int:
        async with open_stores(settings) as stores, open_queue(settings) as queue:
            if deletes and (reason := await forbidden(stores.catalog)):
                raise CommandError(f"Nothing was touched: {reason}.")
            try:
                return await body(sweeper_of(settings, stores.catalog, stores.blobs, queue))
            except (SweepRefused, PlanUnknown) as error:
                raise CommandError(str(error)) from error

    run(opened)


def _facts(plan: Plan) -> dict[str, Any]:
    return {
        "plan": plan.id,
        "made": plan.made,
        "files": plan.files,
        "rows": plan.rows,
        "findings": {
            kind: {"count": plan.counts.get(kind, 0), "bytes": plan.bytes.get(kind, 0)} for kind in _MEANING
        },
        "stopped": plan.stopped,
    }


def _tell(facts: dict[str, Any], text: str, done: Mapping[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    output.print(text)
    for what, count in sorted(done.items()):
        output.print(f"  {count} {what}")


def _print(plan: Plan, done: Mapping[str, int], *, applied: bool) -> None:
    rows = [
        (kind, plan.counts[kind], size(plan.bytes[kind]), done.get(kind, "") if applied else "", meaning)
        for kind, meaning in _MEANING.items()
        if plan.counts.get(kind)
    ]
    output.print(f"{plan.files} files and {plan.rows} records were compared.")
    if rows:
        output.print(table("", ("finding", "#number", "#size", "#done", "meaning"), rows))
    else:
        output.print("They agree.")
    if plan.stopped:
        output.print(f"[bold red]Nothing was touched:[/bold red] {plan.stopped}.")
        output.print(f"If that is right after all: media sweep --force {plan.id}")
    elif rows and not applied:
        output.print(
            f"This is a plan, {plan.id}; nothing was touched. `media sweep --apply` carries one out."
        )
