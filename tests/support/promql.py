"""What a query of Prometheus asks for: series, and the labels that it picks and groups them by."""

from collections.abc import Mapping
from typing import Any

import promql_parser


def selected(query: str) -> Mapping[str, Mapping[str, set[str]]]:
    """By the name of each series, the values of the labels that it is picked by; of a choice each of them."""
    found: dict[str, dict[str, set[str]]] = {}

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            labels = found.setdefault(str(node.name), {})
            for matcher in node.matchers.matchers:
                labels.setdefault(matcher.name, set()).update(matcher.value.split("|"))

    promql_parser.walk(_parsed(query), visit)
    return found


def grouped(query: str) -> set[str]:
    """The labels that its series are put together by."""
    found: set[str] = set()

    def visit(node: Any) -> None:
        modifier = getattr(node, "modifier", None)
        for labels in (getattr(modifier, "labels", None), getattr(modifier, "matching", None)):
            if labels is not None:
                found.update(getattr(labels, "labels", labels))

    promql_parser.walk(_parsed(query), visit)
    return found


def _parsed(query: str) -> promql_parser.Expr:
    return promql_parser.parse(query.replace("$__rate_interval", "1m"))
