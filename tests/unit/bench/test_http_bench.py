"""The loads on the HTTP server: what was measured is summed up, and Locust's file asks for what there is."""

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from bench import http
from bench.contenders import BenchError
from bench.http_client import Client, Load

ROOT = Path(__file__).parents[3]


def test_a_figure_is_kept_within_its_limit_and_without_one() -> None:
    kept = http.Figure("p95", 20.0, "ms", most=50.0), http.Figure("rate", 999.0, "/s", least=990.0)

    assert all(figure.is_kept for figure in (*kept, http.Figure("CPU", 5.0, "ms")))
    assert not http.Figure("p95", 51.0, "ms", most=50.0).is_kept
    assert not http.Figure("rate", 980.0, "/s", least=990.0).is_kept


def test_the_table_says_what_was_not_kept() -> None:
    table = http.table([http.Figure("p95", 51.0, "ms", most=50.0), http.Figure("CPU", 5.0, "ms")])

    assert "| p95 | 51.0 ms | at most 50 | **not kept** |" in table
    assert "| CPU | 5.0 ms |  |  |" in table


def test_a_load_with_one_wrong_answer_is_no_measurement() -> None:
    load = Load([1.0, 2.0], Counter({200: 1, 503: 1}), 2.0)

    assert (load.rate, load.p(50)) == (1.0, 1.5)
    with pytest.raises(BenchError, match="503"):
        load.check()


def test_a_picture_for_uploads_has_exactly_the_bytes_that_are_wanted() -> None:
    assert len(http.noise(200_000)) == 200_000


def test_a_request_shows_its_key_and_says_its_length() -> None:
    head = Client("http://127.0.0.1:1", "mw_x").request("/v1/uploads", "POST", 5, Content_Type="image/png")

    assert head.decode().splitlines()[:4] == [
        "POST /v1/uploads HTTP/1.1",
        "Host: 127.0.0.1:1",
        "Authorization: Bearer mw_x",
        "Content-Length: 5",
    ]


def test_the_file_for_locust_can_be_read_and_asks_for_routes_that_are_there() -> None:
    text = (ROOT / "bench" / "locustfile.py").read_text("utf-8")
    compile(text, "locustfile.py", "exec")
    words = [str(node.value) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    asked = {word.partition("?")[0].rstrip("/") for word in words if word.startswith("/v1/")}
    routes = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))["paths"]

    assert asked
    assert asked <= {re.sub(r"\{\w+\}", "{id}", route) for route in routes}
