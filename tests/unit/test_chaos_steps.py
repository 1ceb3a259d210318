"""The steps at which chaos kills a worker exist; otherwise none of its workers would start."""

import importlib

import pytest

from tests.chaos.steps import EVERY, Step


@pytest.mark.parametrize("name", EVERY)
def test_a_step_at_which_a_worker_is_killed_exists(name: str) -> None:
    step: Step = EVERY[name]
    owner = importlib.import_module(step.owner) if isinstance(step.owner, str) else step.owner

    assert callable(getattr(owner, step.attribute))
