"""The steps at which chaos kills a worker exist, and its broken disk is that of the whole storage."""

import importlib
import re
from pathlib import Path

import pytest

from storage import blobs
from tests.chaos.crashing_worker import modules_with_os
from tests.chaos.steps import EVERY, Step


@pytest.mark.parametrize("name", EVERY)
def test_a_step_at_which_a_worker_is_killed_exists(name: str) -> None:
    step: Step = EVERY[name]
    owner = importlib.import_module(step.owner) if isinstance(step.owner, str) else step.owner

    assert callable(getattr(owner, step.attribute))


def test_chaos_breaks_every_module_of_the_storage_that_calls_the_operating_system() -> None:
    pages = {path.stem: path.read_text() for path in Path(blobs.__file__).parent.glob("*.py")}

    calling = {name for name, page in pages.items() if re.search(r"\bos\.", page)}
    assert {module.__name__.rpartition(".")[2] for module in modules_with_os()} == calling
