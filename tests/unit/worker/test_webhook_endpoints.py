"""The file of further endpoints: each for some recipes or owners, and its mistakes without any secret."""

from pathlib import Path

import pytest

from tests.support.receiver import OLD_SECRET, SECRET
from worker.settings import Settings, SettingsError
from worker.webhooks.endpoint import WebhookEndpoint

SHOP = f"""
[shop]
url = "https://shop.example/hooks?token=hidden"
secret = "{SECRET}"
recipes = ["product", "avatar"]

[alice]
url = "https://alice.example/"
secret = "{OLD_SECRET} {SECRET}"
owners = ["alice"]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "endpoints.toml"
    monkeypatch.setenv("MEDIA_WEBHOOK_ENDPOINTS", str(path))
    return path


def chosen(recipe: str, owner: str) -> list[str]:
    """The names of the endpoints that are sent a message about such an upload."""
    content = {"recipe": recipe, "owner": owner}
    return [one.name for one in WebhookEndpoint.of(Settings.load()) if one.route.has(content)]


def test_a_message_goes_to_the_first_endpoint_of_its_recipe_or_owner_else_to_the_one_of_all(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(SHOP)
    assert chosen("default", "bob") == []
    monkeypatch.setenv("MEDIA_WEBHOOK_URL", "https://app.example/")
    monkeypatch.setenv("MEDIA_WEBHOOK_SECRET", SECRET)

    assert [one.name for one in WebhookEndpoint.of(Settings.load())] == ["default", "shop", "alice"]
    assert chosen("product", "alice") == ["shop"]
    assert chosen("default", "alice") == ["alice"]
    assert chosen("default", "bob") == chosen("", "") == ["default"]
    assert [len(one.secrets) for one in WebhookEndpoint.of(Settings.load())] == [1, 1, 2]


def test_an_endpoint_with_recipes_and_owners_is_sent_what_is_of_both(file: Path) -> None:
    file.write_text(SHOP.replace('["alice"]', '["alice"]\nrecipes = ["avatar"]').replace(', "avatar"', ""))

    assert chosen("avatar", "alice") == ["alice"]
    assert chosen("avatar", "bob") == chosen("default", "alice") == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("[shop]", "[default]", "default is the endpoint of MEDIA_WEBHOOK_URL"),
        ("[shop]", "[Shop]", "Shop: a name is 1 to 32 of a-z, 0-9, _ and -"),
        ("https://shop.example", "shop.example", "shop.url must be a URL such as"),
        (SECRET, "hidden", "shop.secret must be whsec_"),
        (f'"{SECRET}"', '""', "shop.secret must not be empty"),
        ('recipes = ["product", "avatar"]', "", "shop has recipes, or owners"),
        ('["product", "avatar"]', "[]", "shop.recipes names at least one"),
        ('["product", "avatar"]', '"product"', "shop.recipes is a list"),
        ("recipes", "recipe", "shop.recipe means nothing here"),
        ("[alice]", "[alice", "is no TOML"),
    ],
)
def test_a_mistake_is_told_by_its_key_and_without_secrets(
    file: Path, before: str, after: str, words: str
) -> None:
    file.write_text(SHOP.replace(before, after, 1))
    with pytest.raises(SettingsError) as told:
        Settings.load()

    assert words in str(told.value)
    assert "MEDIA_WEBHOOK_ENDPOINTS" in str(told.value)
    assert "hidden" not in str(told.value)
    assert SECRET not in str(told.value)
