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
