"""The instrument measures what it says: statistics, processes, charts."""

import os
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

from bench import chart, processes
from bench.contenders import ALL as CONTENDERS
from bench.rounds import Round
from bench.statistics import percentile, slope, spread


def a_round(title: str, seconds: float, cores: int = 1, others: float = 0.0) -> Round:
    """100 pictures of 50 CPU ms each in that time."""
    return Round(title, cores, 100, seconds, {"worker": 50.0}, 100_000_000, 1, 1, 1, others, (80.0, 90.0))


def test_a_spread_is_the_median_and_the_ends() -> None:
    found = spread([3.0, 1.0, 2.0])

    assert (found.median, found.low, found.high) == (2.0, 1.0, 3.0)
    assert found.percent == pytest.approx(50)


def test_percentiles_lie_between_neighbours() -> None:
    assert percentile([4.0, 1.0, 2.0, 3.0], 50) == pytest.approx(2.5)
    assert percentile([1.0, 2.0], 99) == pytest.approx(1.99)
    assert percentile([7.0], 95) == 7.0


def test_a_slope_is_that_of_the_best_line() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(1, 5), (1, 9)]) == 0


def test_a_tree_has_the_children_of_children() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        until = time.monotonic() + 10
        while len(found := processes.tree(process.pid)) < 2 and time.monotonic() < until:
            time.sleep(0.01)

        assert found[0] == process.pid
        assert len(found) == 2
        assert processes.memory(found) > processes.memory(found[:1]) > 1_000_000
        assert process.stdin is not None
        process.stdin.close()


def test_cpu_time_that_a_process_spends_is_counted() -> None:
    costs = processes.Costs({"this": os.getpid()})
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass

    assert 80 <= costs.so_far()["this"] < 1000


def test_the_time_that_the_kernel_spends_for_a_process_is_a_part_of_it() -> None:
    costs, kernel = (
        processes.Costs({"": os.getpid()}),
        processes.Costs({"": os.getpid()}, processes.kernel_ms),
    )
    until = time.process_time() + 0.1
    while time.process_time() < until:
        os.stat("/")

    assert 10 <= kernel.so_far()[""] <= costs.so_far()[""]


def test_what_is_started_while_pinned_runs_on_those_cores_only() -> None:
    mine = os.sched_getaffinity(0)
    program = "import os; print(len(os.sched_getaffinity(0)))"
    with processes.pinned({min(mine)}):
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "1"
    assert os.sched_getaffinity(0) == mine


def test_time_that_others_took_is_taken_off() -> None:
    assert a_round("x", 10, others=0.5).rate == pytest.approx(10)
    assert a_round("x", 10, others=0.5).undisturbed == pytest.approx(20)


def test_charts_are_well_formed_and_escape_what_they_say() -> None:
    bars = [chart.Bar("a < b & c", 3, "3.0", chart.OURS, 2, 4), chart.Bar("none", 0, "0")]
    svg = chart.bars([chart.Group("Rates", bars)], "A chart")
    stacked = chart.stacked([("one", {"decode": 30.0, "encode": 10.0}, "40 ms")], "Stages")

    texts = ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter()]
    assert "a < b & c" in texts
    assert "decode: 30.0 ms" in ["".join(node.itertext()) for node in ElementTree.fromstring(stacked).iter()]


def test_bars_are_as_long_as_their_values() -> None:
    svg = chart.bars([chart.Group("g", [chart.Bar("x", 10, ""), chart.Bar("y", 5, "")])], "t")
    widths = [
        float(node.attrib["width"])
        for node in ElementTree.fromstring(svg).iter()
        if node.tag.endswith("rect") and "fill" in node.attrib
    ]

    assert widths[0] == pytest.approx(2 * widths[1])


def test_the_title_of_each_contender_fits_beside_its_bar_and_short_parts_are_told_in_tenths() -> None:
    longest = max((contender.title for contender in CONTENDERS), key=len)
    svg = chart.bars([chart.Group("g", [chart.Bar(longest, 1, "", chart.OURS)])], "t")
    stacked = chart.stacked([("one", {"decode": 1.26, "encode": 12.6}, "")], "t")

    [label] = [node for node in ElementTree.fromstring(svg).iter() if node.text == longest]
    assert float(label.attrib["x"]) > 7.4 * len(longest)  # pixels of a bold letter, on the average
    assert {"1.3", "13"} <= {node.text for node in ElementTree.fromstring(stacked).iter()}
