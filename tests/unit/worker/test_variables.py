"""Settings turned back into the variables that make them."""

import pytest

from scripts.variables import environment, written
from worker.settings import Settings


def test_the_variables_of_settings_make_the_same_settings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_construct(
        cpus=3, image_timeout=2.5, formats=("png", "gif"), delete_originals=True, damaged="accept"
    )
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    assert Settings.load() == settings


def test_what_is_not_set_is_left_out() -> None:
    assert "MEDIA_RECIPES" not in environment(Settings.model_construct(cpus=1))


@pytest.mark.parametrize(
    ("value", "text"), [(True, "1"), (False, "0"), (("a", "b"), "a,b"), (8, "8"), (0.5, "0.5"), ("x", "x")]
)
def test_a_value_is_written_as_an_operator_writes_it(value: object, text: str) -> None:
    assert written(value) == text
