"""`media doctor`: prints what the doctor finds, and says what to do about what is wrong."""

from typing import TYPE_CHECKING, Annotated

import typer

from scripts.terminal import AsJson, output, print_json, run, safe

if TYPE_CHECKING:
    from worker.findings import Finding
    from worker.settings import Settings

_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


def command(
    as_json: AsJson = False,
    libraries: Annotated[
        bool,
        typer.Option("--libraries", help="Name the C libraries that read pictures, with their versions."),
    ] = False,
) -> None:
    """Check Redis, catalog, storage root, decoders and limits."""

    async def body(settings: "Settings") -> int:
        from worker.doctor.decoders import check_libraries  # the help is shown without what is examined
        from worker.doctor.examination import examine

        findings = []

        def tell(finding: "Finding") -> None:
            findings.append(finding)
            if not as_json:
                _print(finding)

        async for finding in examine(settings):
            tell(finding)
        for finding in await check_libraries() if libraries else ():
            tell(finding)
        if as_json:
            print_json([vars(finding) for finding in findings])
        return 1 if any(finding.level == "error" for finding in findings) else 0

    run(body, prints_files=True)


def _print(finding: "Finding") -> None:
    color = _COLORS[finding.level]
    output.print(
        f"[{color}]{finding.level:>7}[/{color}]  [bold]{finding.what}[/bold]: {safe(finding.detail)}"
    )
    if finding.advice:
        output.print(f"         {safe(finding.advice)}")
