"""What the doctor finds in `media serve`: what it can judge there, and no secret."""

from collections.abc import Mapping
from pathlib import Path

from scripts.redis_server import RedisServer
from storage.catalog.backup_notes import BackupChecked, BackupFailed, BackupMade, BackupNotes
from storage.catalog.opening import Catalog
from tests.support.catalogs import ON_BOTH, take, upload_event, work
from tests.support.face import OpenFace, settings_in
from worker.doctor.checkups import Checkups
from worker.doctor.copies import check_noted_copies
from worker.findings import Finding
from worker.settings import Settings

SECRET = "a-secret-that-signs-tokens-and-links"


async def findings(settings: Settings) -> Mapping[str, Finding]:
    """What a check-up finds, by what it is about."""
    return {one.what: one for one in (await Checkups(settings).latest()).findings}


@ON_BOTH
async def test_an_installation_that_is_well_is_found_well_in_every_respect(opened: OpenFace) -> None:
    found = await findings(opened.face.settings)

    own = {
        "Redis durability",
        "Settings",
        "Backup",
    }  # of the Redis and the environment of tests, without copies
    assert {one.what for one in found.values() if one.level != "ok"} <= own
    assert {
        "Redis",
        "Redis version",
        "Workers",
        "Catalog",
        "Stream",
        "Writing",
        "HTTP server",
        "Recipes",
    } <= set(found)
    # Workers tell of these themselves, and of those that take long the command tells.
    assert not {"Decoders", "Limits", "Memory budget", "Catalog pages", "Tidying"} & set(found)


@ON_BOTH
async def test_variants_that_uploads_have_and_their_recipe_makes_no_more_are_found(
    opened: OpenFace, tmp_path: Path
) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    await work(catalog)
    recipes = tmp_path / "recipes.toml"
    recipes.write_text('[default]\nextends = "default"\nlarge = {box = 1000}\n')
    extended = await findings(opened.face.settings.model_copy(update={"recipes": recipes}))
    recipes.write_text("[default]\nthumb = {box = 150}\n")
    redefined = await findings(opened.face.settings.model_copy(update={"recipes": recipes}))

    assert extended["Recipes"].level == "ok"
    assert redefined["Recipes"].level == "warning"
    assert "default makes no large any more, as about 1 upload has" in redefined["Recipes"].detail


async def test_servers_that_are_away_are_errors_and_no_password_is_in_them(tmp_path: Path) -> None:
    settings = settings_in(
        tmp_path,
        "redis://worker:hidden@127.0.0.1:1/0",
        catalog_url="postgresql+asyncpg://media:hidden@127.0.0.1:1/media",
        http_secret=SECRET,
    )
    found = await findings(settings)

    assert [found[what].level for what in ("Redis", "Catalog")] == ["error", "error"]
    said = " ".join(f"{one.detail} {one.advice}" for one in found.values())
    assert "hidden" not in said
    assert SECRET not in said


async def noted(server: RedisServer, tmp_path: Path, catalog_url: str) -> Finding:
    [found] = await check_noted_copies(settings_in(tmp_path, server.url, catalog_url=catalog_url))
    return found


async def test_copies_are_judged_by_what_the_catalog_notes_of_them(
    catalog: Catalog, catalog_url: str, server: RedisServer, tmp_path: Path
) -> None:
    notes, now_ms = BackupNotes(catalog.database), catalog.database.now_ms()
    none = await noted(server, tmp_path, catalog_url)
    await notes.note(BackupMade(now_ms - 2 * 3_600_000, "/copies", "2026-11-30", 1, 1))
    made = await noted(server, tmp_path, catalog_url)
    await notes.note_check(BackupChecked(now_ms, "2026-11-30", "it is cut off"))
    bad = await noted(server, tmp_path, catalog_url)
    await notes.note_failure(BackupFailed(now_ms, "no room"))
    failed = await noted(server, tmp_path, catalog_url)

    expected = "warning" if catalog_url.startswith("sqlite") else "ok"  # before the first upload, too
    assert [one.level for one in (none, made, bad, failed)] == [expected, "ok", "error", "error"]
    assert made.detail == "the newest copy is 2026-11-30 in /copies, 2 hours old"
    assert "it is cut off" in bad.detail
    assert "no room" in failed.detail
