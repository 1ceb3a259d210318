"""`media sweep`: compares files and records, writes a plan, and applies it only on demand."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal as size

from pipelines.formats import MIB
from scripts.terminal import AsJson, CommandError, counted_are, output, print_json, run, safe, table
from storage.errors import StorageError
from storage.keys import plan_key
from worker.queue.errors import QueueUnavailable
from worker.sweep_words import ACTION, MEANING

if TYPE_CHECKING:
    from pipelines.sweep.plan import Plan
    from pipelines.sweep.sweeper import Sweeper
    from pipelines.sweep.verify import Verified
    from storage.catalog.opening import Catalog
    from worker.queue import Queue
    from worker.settings import Settings

app = typer.Typer(invoke_without_command=True)

_APPLIED = ("orphan", "missing", "outdated", "leftover", "retired")


@app.callback()
def sweep(
    context: typer.Context,
    apply: Annotated[bool, typer.Option("--apply", help="Apply the new plan.")] = False,
    verifies: Annotated[
        bool, typer.Option("--verify", help="Read all variants again; damaged ones are made again.")
    ] = False,
    rate: Annotated[
        float, typer.Option(metavar="MIB", min=0.001, help="With --verify: at most this many MiB a second.")
    ] = 16,
    as_json: AsJson = False,
) -> None:
    """Compare files and records, and write a plan; with --apply, apply it."""
    from pipelines.sweep.applying import apply_plan
    from pipelines.sweep.planning import make_plan
    from worker.plan_documents import plan_document
    from worker.sweeping import alarm

    if context.invoked_subcommand is not None:
        if given := [option.opts[0] for option in context.command.params if _is_given(option, context)]:
            raise typer.BadParameter(f"{', '.join(given)} cannot stand before {context.invoked_subcommand}.")
        return
    if verifies:
        if apply:
            raise typer.BadParameter("--verify and --apply exclude each other.")
        _verify(rate, as_json=as_json)
        return

    async def body(sweeper: "Sweeper", queue: "Queue") -> int:
        made = await make_plan(sweeper)
        done = await apply_plan(made.id, sweeper) if apply and made.counts and not made.stopped else {}
        if as_json:
            print_json({**plan_document(made), "done": done})
        else:
            _print(made, done, applied=apply)
        if made.stopped:
            await alarm(queue, made.stopped, made)
        return 1 if made.stopped else 0

    _with_sweeper(body, deletes=apply, queues=True, alarms=True)


def _is_given(option: Any, context: typer.Context) -> bool:  # noqa: ANN401 (a parameter of click)
    source = context.get_parameter_source(option.name)
    return source is not None and source.name == "COMMANDLINE"


@app.command("apply")
def apply_written(
    plan: Annotated[str, typer.Argument(metavar="PLAN")],
    force: Annotated[bool, typer.Option("--force", help="Also if the sweep was stopped.")] = False,
    as_json: AsJson = False,
) -> None:
    """Apply a plan that was written before."""
    from pipelines.sweep.applying import apply_plan
    from pipelines.sweep.plan import load

    async def body(sweeper: "Sweeper", _queue: "Queue") -> int:
        done = await apply_plan(plan, sweeper, force=force)
        planned = await load(plan, sweeper.blobs)
        text = f"Plan {plan} is applied."
        if skipped := sum(max(0, planned.counts.get(kind, 0) - done.get(kind, 0)) for kind in _APPLIED):
            text += f" {counted_are(skipped, 'key')} left: young, or changed since the plan."
        _print_done({"plan": plan, "done": done}, text, done, as_json=as_json)
        return 0

    _with_sweeper(body, deletes=True, queues=True, alarms=True)


@app.command("restore")
def restore(plan: Annotated[str, typer.Argument(metavar="PLAN")], as_json: AsJson = False) -> None:
    """Put back everything that a plan moved to the trash."""
    from pipelines.sweep import trash

    async def body(sweeper: "Sweeper", _queue: "Queue") -> int:
        restored = await trash.restore(plan, sweeper)
        text = f"{counted_are(restored, 'file')} back."
        _print_done({"plan": plan, "restored": restored}, text, {}, as_json=as_json)
        return 0

    _with_sweeper(body)


@app.command("purge")
def purge(as_json: AsJson = False) -> None:
    """Remove from the trash, for good, everything older than MEDIA_RETENTION."""
    from pipelines.sweep import trash

    async def body(sweeper: "Sweeper", _queue: "Queue") -> int:
        done = await trash.purge(sweeper)
        text = "Purged." if any(done.values()) else "Nothing in the trash is older than MEDIA_RETENTION."
        _print_done({"done": done}, text, done, as_json=as_json)
        return 0

    _with_sweeper(body, deletes=True)


def _verify(rate: float, *, as_json: bool) -> None:
    from pipelines.sweep.verify import Pace, verify

    async def body(sweeper: "Sweeper", _queue: "Queue") -> int:
        found = await verify(sweeper.blobs, sweeper, Pace(rate * MIB))
        if as_json:
            print_json(found)
        else:
            _print_verified(found)
        return 1 if found.unreadable else 0

    _with_sweeper(body, queues=True)


def _with_sweeper(
    body: "Callable[[Sweeper, Queue], Awaitable[int]]",
    *,
    deletes: bool = False,
    queues: bool = False,
    alarms: bool = False,
) -> None:
    from pipelines.sweep.plan import PlanUnknown, PlanUnreadable
    from pipelines.sweep.sweeper import SweepRefused
    from worker.queue import open_queue
    from worker.stores import open_stores
    from worker.sweeping import alarm, forbidden, sweeper_of

    async def opened(settings: "Settings") -> int:
        async with open_queue(settings) as queue:
            try:
                async with open_stores(settings, create=False) as stores:
                    if deletes and (reason := await forbidden(stores.catalog)):
                        raise CommandError(f"Nothing was touched: {reason}.")
                    if queues:
                        await _check_owner(queue, stores.catalog)
                    return await body(sweeper_of(settings, stores.catalog, stores.blobs), queue)
            except (SweepRefused, PlanUnknown, PlanUnreadable) as error:
                raise CommandError(str(error)) from error
            except StorageError as error:
                if alarms:
                    await alarm(queue, str(error), None)
                raise

    run(opened)


async def _check_owner(queue: "Queue", catalog: "Catalog") -> None:
    """Raises: QueueRefused where the stream is another catalog's. An unreachable one takes no job anyway."""
    try:
        await queue.ownership.check_not_of_another(catalog.id)
    except QueueUnavailable as error:
        if error.refusal:
            raise


def _print_done(document: dict[str, Any], text: str, done: Mapping[str, int], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    output.print(text)
    for what, count in sorted(done.items()):
        output.print(f"  {count} {what}")


def _print(plan: "Plan", done: Mapping[str, int], *, applied: bool) -> None:
    rows = [
        (kind, count, size(plan.bytes[kind]), done.get(kind, "") if applied else "", MEANING[kind], action)
        for kind, action in ACTION.items()
        if (count := plan.counts.get(kind))
    ]
    output.print(f"{plan.files} files and {plan.rows} records were compared.")
    if rows:
        output.print(table("", ("finding", "#number", "#size", "#done", "meaning", "action"), rows))
    elif plan.files == plan.rows:
        output.print("Files and records agree.")
    else:
        output.print("What differs is younger than MEDIA_GRACE: it is looked at by a later sweep.")
    if plan.stopped:
        output.print(f"[bold red]Nothing was touched:[/bold red] {plan.stopped}.")
        output.print(f"The plan is {plan_key(plan.id)}; the files beside it list every key.")
        output.print(f"If the plan is right: media sweep apply {plan.id} --force")
    elif rows and not applied:
        output.print("This is a plan; nothing was touched. Its folder in trash/ lists every key.")
        output.print(f"To apply it: media sweep apply {plan.id}")


def _print_verified(found: "Verified") -> None:
    output.print(f"{found.files} files with {size(found.bytes)} were read.")
    kinds = {"damaged": found.damaged, "unreadable": found.unreadable, "missing": found.missing}
    for kind, keys in kinds.items():
        for key in keys:
            output.print(f"  {kind}  {safe(key)}")
    if not any(kinds.values()):
        output.print("Every file matches its record.")
    if found.remade:
        output.print(f"{counted_are(found.remade, 'upload')} queued to be made again.")
