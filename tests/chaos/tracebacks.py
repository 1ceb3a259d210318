"""Tracebacks in the logs of workers: which of them a fault explains, and which are errors of ours."""

import json
import re
from collections.abc import Collection, Iterator, Sequence

_REDIS = frozenset({"cut", "hold_up", "refuse", "restart_redis", "fill_redis", "forget", "freeze"})
_POSTGRES = frozenset({"freeze_postgres", "kill_postgres", "cut_postgres", "lose_commits"})
_BUCKET = frozenset({"freeze_bucket", "kill_bucket", "spoil_bucket"})
_EXPLAINED: Sequence[tuple[str, frozenset[str]]] = (
    (r"redis\.exceptions\.\w+|(builtins\.)?(ConnectionError|Connection\w+Error|TimeoutError)", _REDIS),
    (r"storage\.errors\.CatalogUnavailable", frozenset({"lock_catalog", "freeze"}) | _POSTGRES),
    (r"storage\.errors\.(BlobsUnavailable|StorageFull)", frozenset({"arm"}) | _BUCKET),
    (
        r"arq\.worker\.Retry",
        frozenset({"terminate"}),
    ),  # nobody awaits it any more; its cause is logged by itself
    (r"pipelines\.errors\.Decode\w+", frozenset({"kill_decoder"})),
)
"""An error, and the faults that are allowed to cause it."""

_BEGINS = "Traceback (most recent call last)"
_RAISED = re.compile(r"^[\s|]*((?:\w+\.)*[A-Z]\w*)(?::|$)", re.MULTILINE)  # in a group, too


def unexplained(log: Sequence[str], faults: Collection[str]) -> list[str]:
    """The tracebacks in `log`, but for those that end with an error that one of `faults` causes."""
    return [text for text in _tracebacks(log) if not _is_explained(text, faults)]


def _tracebacks(log: Sequence[str]) -> Iterator[str]:
    """Those of lines in JSON, and those that were written as they are, up to the next such line."""
    bare: list[str] = []
    for line in [*log, "{}"]:
        if not line.startswith("{"):
            bare.append(line)
            continue
        if any(_BEGINS in one for one in bare):
            yield "\n".join(bare)
        bare.clear()
        answer = json.loads(line).get("exception")
        if answer:
            yield str(answer)


def _is_explained(text: str, faults: Collection[str]) -> bool:
    raised = _RAISED.findall(text)
    return bool(raised) and any(
        re.fullmatch(error, raised[-1]) and not causes.isdisjoint(faults) for error, causes in _EXPLAINED
    )
