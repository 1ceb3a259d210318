"""Files that are refused from their header cost their decoder next to nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import formats
from tests.support.bombs import BOMBS
from tests.support.decoder_child import DecoderProcess

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def children() -> Iterator[dict[str, DecoderProcess]]:
    with DecoderProcess("vips") as vips, DecoderProcess("pillow") as pillow:
        yield {"vips": vips, "pillow": pillow}


def _peak_kib(child: DecoderProcess, *, anew: bool = False) -> int:
    folder = Path(f"/proc/{child.pid}")
    if anew:
        (folder / "clear_refs").write_text("5")  # the highest mark falls to what is in use now
    found = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
    return int(found[1]) if found else 0


@pytest.mark.fault(38)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_100_ms_and_50_mib(children: dict[str, DecoderProcess], name: str) -> None:
    content = BOMBS[name]()
    known = formats.sniff(content[: formats.HEAD])
    child = children[known.engine if known else "vips"]
    memory = _peak_kib(child, anew=True)
    costs: list[float] = []
    while not costs or (min(costs) >= 100 and len(costs) < 5):  # another program may slow a core down
        began = child.cpu_ms()
        answer = child.run(content, proceed=False)
        costs.append(child.cpu_ms() - began)

    assert len(content) < 10 * MIB
    assert answer.code in {"too_many_pixels", "corrupt_image"}
    assert min(costs) < 100
    assert (_peak_kib(child) - memory) / 1024 < 50
