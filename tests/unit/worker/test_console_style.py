"""The console's style: one file that all pages write to."""

import re

from worker.http.console.rendering import STATIC


def test_the_section_of_each_page_stands_in_no_block_of_another() -> None:
    depth, nested = 0, []
    for line in (STATIC / "console.css").read_text("utf-8").splitlines():
        if line.startswith("/*") and depth:
            nested.append(line)
        depth += len(re.findall("{", line)) - len(re.findall("}", line))

    assert (nested, depth) == ([], 0)


def test_what_a_page_has_stands_below_each_other_at_most_as_wide_as_can_be_read() -> None:
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", (STATIC / "console.css").read_text("utf-8"))
    of_main = "".join(body for names, body in rules if "main" in re.split(r"[\s,]+", names))

    assert "max-width: 84rem" in of_main
    assert "display" not in of_main
