"""`media doctor`: prints what the doctor finds, and says what to do about what is wrong."""

from scripts.terminal import AsJson, output, print_json, run, safe
from worker.doctor.examination import examine
from worker.findings import Finding
from worker.settings import Settings

_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


def command(as_json: AsJson = False) -> None:
    """Check Redis, catalog, storage root, decoders and limits."""

    async def body(settings: Settings) -> int:
        findings = []
        async for finding in examine(settings):
            findings.append(finding)
            if not as_json:
                _print(finding)
        if as_json:
            print_json([vars(finding) for finding in findings])
        return 1 if any(finding.level == "error" for finding in findings) else 0

    run(body, prints_files=True)


def _print(finding: Finding) -> None:
    color = _COLORS[finding.level]
    output.print(
        f"[{color}]{finding.level:>7}[/{color}]  [bold]{finding.what}[/bold]: {safe(finding.detail)}"
    )
    if finding.advice:
        output.print(f"         {safe(finding.advice)}")
