"""`media show`, `events`, `stats` and `failed`: what they print for people and programs."""

import json
import re
import signal
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from jsonschema import Draft202012Validator

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import MEDIA, document, documents, media, media_of_next_version, on_a_terminal
from tests.support.old_catalogs import NOW, make_development, make_old, schema_in
from tests.support.workplace import Answer, Workplace, database_on

pytestmark = pytest.mark.rotating(12, of="module")

CAT, PDF = "uploads/cat.jpg", "uploads/paper.pdf"
HOSTILE = "uploads/[red]x[/red]\u202e\N{ZERO WIDTH SPACE}.jpg"
EVIL = {"name": "\x1b]0;owned\x07[link=http://evil]x[/link]", "turn\u202e": "\u2028"}
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/stats.schema.json").read_text("utf-8"))
REFUSED = '{"source": "\x1b[31m[bold]elsewhere"}'


@pytest.fixture(scope="module")
def used(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace where one upload is ready, one has failed, one is hostile, and one event was refused."""
    place = Workplace(tmp_path_factory.mktemp("used"), database_on(redis_server.url), migrated)
    worker = place.start("media")
    place.put(CAT, pictures.medium())
    place.put(PDF, b"%PDF-1.7 \x1b[31m")
    place.put(HOSTILE, pictures.small())
    place.send_raw({"event": REFUSED})
    place.send({"source": CAT, "metadata": {"owner": "42"}})
    place.await_end_of(CAT)
    place.send({"source": PDF})
    place.await_end_of(PDF)
    place.send({"source": HOSTILE, "metadata": EVIL})
    place.await_end_of(HOSTILE)
    yield place
    worker.stop()
    place.close()


def id_of(source: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"media:{source}"))


def assert_harmless(output: str) -> None:
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)  # colours and cursors, ours
    assert not any(bad in output for bad in ("\x1b", "\x07", "\u202e", "\u2028", "\u200b"))


# -- show


def test_an_upload_is_shown_with_its_state_and_variants(used: Workplace) -> None:
    ended = media(used.env(), "show", id_of(CAT))

    assert (ended.returncode, ended.stderr) == (0, "")
    assert all(f" {word}" in ended.stdout for word in (CAT, "ready", "thumb", "medium", "large", "1200"))
    [thumbhash, thumb] = [line for line in ended.stdout.splitlines() if "thumb" in line]
    assert re.fullmatch(r"thumbhash  [A-Za-z0-9+/]{27,33}={0,2} *", thumbhash)
    assert re.search(r"150 +113 .* jpeg 80 +variants/../../[0-9a-f-]{36}\.jpg", thumb)


def test_a_variant_that_the_recipe_makes_otherwise_by_now_is_shown_as_such(
    used: Workplace, tmp_path: Path
) -> None:
    recipes = tmp_path / "recipes.toml"
    recipes.write_text("[default.thumb]\nbox = 150\n[default.medium]\nbox = 800\neffort = 'small'\n")

    ended = media({**used.env(), "MEDIA_RECIPES": str(recipes)}, "show", id_of(CAT))

    said = re.findall(r" (thumb|medium|large) .* (jpeg 80|by another recipe) ", f" {ended.stdout}")
    assert said == [("thumb", "jpeg 80"), ("medium", "by another recipe"), ("large", "by another recipe")]


def test_an_upload_is_shown_as_json_with_all_that_is_known(used: Workplace) -> None:
    answer = document(media(used.env(), "show", "--json", id_of(CAT)))

    assert (answer["id"], answer["source"], answer["state"], answer["recipe"]) == (
        id_of(CAT),
        CAT,
        "ready",
        "default",
    )
    assert (answer["metadata"], answer["attempts"], answer["error"]) == ({"owner": "42"}, 0, None)
    assert answer["original"]["format"] == "jpeg"
    assert len(b64decode(answer["thumbhash"])) <= 25
    assert [(v["name"], v["width"], v["height"]) for v in answer["variants"]] == [
        ("thumb", 150, 113),
        ("medium", 800, 600),
        ("large", 1200, 900),
    ]


def test_an_upload_is_also_found_by_its_source(used: Workplace) -> None:
    by_source, by_id = (media(used.env(), "show", word, "--json") for word in (CAT, id_of(CAT)))

    assert document(by_source) == document(by_id)


def test_a_failed_upload_is_shown_with_its_reason(used: Workplace) -> None:
    for_people = media(used.env(), "show", PDF)
    answer = document(media(used.env(), "show", PDF, "--json"))

    assert for_people.returncode == 0
    assert "unsupported_format" in for_people.stdout
    assert (answer["state"], answer["error"]["code"], answer["variants"]) == (
        "failed",
        "unsupported_format",
        [],
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [("uploads/nobody.jpg", 1), ("7\x1b]0;x\x07", 2)],
)
def test_an_unknown_upload_ends_with_1_and_what_is_no_id_with_2(
    used: Workplace, asked: str, code: int
) -> None:
    ended = media(used.env(), "show", asked, "--json")

    assert (ended.returncode, ended.stdout) == (code, "")
    assert_harmless(ended.stderr)
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [["show", HOSTILE], ["events"], ["failed", "list"], ["show", HOSTILE, "--json"]],
)
@pytest.mark.rotating(2)
def test_what_came_from_outside_is_escaped_on_the_terminal(used: Workplace, command: list[str]) -> None:
    code, shown = on_a_terminal(used.env(), *command)

    assert code == 0
    assert_harmless(shown)


def test_what_came_from_outside_is_unchanged_in_json(used: Workplace) -> None:
    answer = document(media(used.env(), "show", HOSTILE, "--json"))

    assert (answer["source"], answer["metadata"]) == (HOSTILE, EVIL)


# -- events


def sent(place: Workplace) -> list[Answer]:
    entries: Any = place.redis.xrange("media:events")
    return [json.loads(fields[b"event"]) for _, fields in entries]


def test_the_messages_are_printed_as_they_were_sent(used: Workplace) -> None:
    ended = media(used.env(), "events", "--json")

    assert ended.returncode == 0
    assert documents(ended) == sent(used)


def test_only_messages_after_a_seq_are_printed_on_request(used: Workplace) -> None:
    first, *others = sent(used)

    ended = media(used.env(), "events", "--since", str(first["seq"]), "--json")

    assert documents(ended) == others


def test_the_messages_are_printed_for_people_one_a_line(used: Workplace) -> None:
    lines = media(used.env(), "events").stdout.splitlines()

    assert len(lines) == len(sent(used))
    assert all(word in lines[0] for word in ("upload.ready", id_of(CAT), CAT, "thumb medium large"))
    assert "unsupported_format" in lines[1]


def test_following_prints_new_messages_until_ctrl_c(used: Workplace) -> None:
    last = str(sent(used)[-1]["seq"])
    command = [str(MEDIA), "events", "--since", last, "--follow", "--json"]
    with subprocess.Popen(command, env=used.env(), stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        lines = []
        for number in range(2):
            source = used.put(f"uploads/later-{number}.jpg", pictures.small(50 + number))
            used.send({"source": source})
            lines.append(json.loads(following.stdout.readline()))
        following.send_signal(signal.SIGINT)

    assert [line["source"] for line in lines] == ["uploads/later-0.jpg", "uploads/later-1.jpg"]
    assert following.returncode == 130


# -- stats and failed


def test_the_stats_follow_their_published_schema(used: Workplace) -> None:
    answer = document(media(used.env(), "stats", "--json"))

    Draft202012Validator(SCHEMA).validate(answer)
    ready = answer["uploads"]["ready"]
    assert (answer["uploads"]["failed"], answer["uploads"]["queued"]) == (1, 0)
    assert answer["queue"] == {"depth": 0, "oldest_seconds": None, "jobs": 0, "workers": 1}
    assert {(total["name"], total["format"]): total["files"] for total in answer["variants"]} == {
        (name, "jpeg"): ready for name in ("thumb", "medium", "large")
    }
    assert answer["originals"]["files"] == ready
    assert answer["failures"] == [{"code": "unsupported_format", "uploads": 1}]
    assert (answer["dead_letters"], answer["superseded"]) == (1, {"files": 0, "bytes": 0})
    assert (answer["largest"][0]["source"], answer["history"]) == (CAT, None)


@pytest.mark.fault(52)
@pytest.mark.rotating(1)
def test_the_bytes_in_the_stats_are_those_on_the_disk(used: Workplace) -> None:
    answer = document(media(used.env(), "stats", "--json"))

    on_disk = sum(path.stat().st_size for path in (used.root / "variants").rglob("*.jpg"))
    originals = sum(
        path.stat().st_size for path in (used.root / "uploads").rglob("*.jpg") if path.name[0] != "."
    )
    assert sum(total["bytes"] for total in answer["variants"]) == on_disk
    assert sum(day["bytes"] for day in answer["days"]) == on_disk
    assert (answer["originals"]["bytes"], answer["bytes"]) == (originals, originals + on_disk)
    assert answer["proportion"] == pytest.approx(on_disk / originals, abs=1e-4)


def test_a_scan_reports_how_the_disk_differs_from_the_catalog(used: Workplace) -> None:
    agreed = document(media(used.env(), "stats", "--scan", "--json"))["drift"]
    [thumb, *_] = document(media(used.env(), "show", "--json", CAT))["variants"]
    (used.root / thumb["key"]).rename(used.root / "variants/strange.txt")
    used.put("uploads/nobody.jpg", b"1234567")

    answer = document(media(used.env(), "stats", "--scan", "--json"))
    for_people = media(used.env(), "stats", "--scan").stdout

    (used.root / "variants/strange.txt").rename(used.root / thumb["key"])
    (used.root / "uploads/nobody.jpg").unlink()
    Draft202012Validator(SCHEMA).validate(answer)
    files = {"count": agreed["disk"]["count"], "bytes": agreed["disk"]["bytes"]}
    assert agreed["disk"] == agreed["catalog"] == agreed["areas"]["variants"] == files
    assert [name for name, found in agreed["findings"].items() if found["count"]] == []
    odd = {name: found for name, found in answer["drift"]["findings"].items() if found["count"]}
    assert odd["missing"] == odd["unknown"] == {"count": 1, "bytes": thumb["bytes"]}
    assert odd["unannounced"] == {"count": 1, "bytes": 7}
    assert re.search(r"missing +1 ", for_people)


def test_the_stats_name_states_files_and_queue_for_people(used: Workplace) -> None:
    ended = media(used.env(), "stats")

    assert (ended.returncode, ended.stderr) == (0, "")
    words = ("ready", "failed", "thumb", "originals", "0 events wait", "Largest", "are free", "no sweep yet")
    assert [word for word in words if word not in ended.stdout] == []
    assert "Dead letters: 1;" in ended.stdout


@WITH_SERVICES
def test_a_worker_saves_a_snapshot_of_the_day_and_the_growth_since_is_charted(used: Workplace) -> None:
    answer = document(media(used.env(), "stats", "--history", "--json"))
    _, shown = on_a_terminal(used.env(), "stats", "--history")

    Draft202012Validator(SCHEMA).validate(answer)
    [first] = answer["history"]
    assert (first["uploads"], first["bytes"], first["free_bytes"] > 0) == (0, 0, True)
    assert answer["growth"] == {
        "bytes_per_day": None,
        "days_until_full": None,
    }  # it has been here for seconds
    [_, now] = [line for line in shown.splitlines() if line.split()[:1] in ([first["day"]], ["now"])]
    assert "█" * 40 in now


def test_the_stats_leave_an_older_catalog_as_it_is(used: Workplace, tmp_path: Path) -> None:
    make_old(tmp_path / "catalog.db")
    env = used.env(MEDIA_CATALOG_URL=f"sqlite+aiosqlite:///{tmp_path}/catalog.db")

    answer = document(media_of_next_version(env, tmp_path, "stats", "--json"))

    Draft202012Validator(SCHEMA).validate(answer)
    assert (answer["uploads"]["ready"], answer["originals"]["bytes"]) == (2, 1000)
    assert schema_in(tmp_path / "catalog.db") == NOW


def test_a_command_that_needs_the_schema_of_today_refuses_an_older_one_in_a_sentence(
    used: Workplace, tmp_path: Path
) -> None:
    make_old(tmp_path / "catalog.db")
    env = used.env(MEDIA_CATALOG_URL=f"sqlite+aiosqlite:///{tmp_path}/catalog.db")

    ended = media_of_next_version(env, tmp_path, "show", str(UUID(int=1)))

    assert ended.returncode == 1
    assert "is pending: media migrate, or the next start of a worker" in ended.stderr.replace("\n", " ")
    assert schema_in(tmp_path / "catalog.db") == NOW


def test_a_catalog_of_a_development_version_is_refused_in_a_sentence_by_whatever_asks_it(
    used: Workplace, tmp_path: Path
) -> None:
    make_development(tmp_path / "catalog.db", "0010")
    before = (tmp_path / "catalog.db").read_bytes()
    env = used.env(MEDIA_CATALOG_URL=f"sqlite+aiosqlite:///{tmp_path}/catalog.db")
    commands = (["show", str(UUID(int=1))], ["stats"], ["failed", "list"], ["worker", "--burst"])

    ended = [media(env, *words) for words in commands]
    [examined] = [found for found in document(media(env, "doctor", "--json")) if found["what"] == "Catalog"]

    assert [each.returncode for each in ended] == [1] * 4
    assert ["run `media rebuild`" in each.stderr.replace("\n", " ") for each in ended] == [True] * 4
    assert examined["advice"].endswith("then: media rebuild.")
    assert (tmp_path / "catalog.db").read_bytes() == before


def test_the_stats_do_without_redis(used: Workplace) -> None:
    ended = media(used.env(MEDIA_REDIS_URL="redis://127.0.0.1:1/0"), "stats", "--json")

    assert ended.returncode == 0
    assert document(ended)["queue"] is None


def test_failed_uploads_and_refused_events_are_listed_with_their_reasons(used: Workplace) -> None:
    answer = document(media(used.env(), "failed", "list", "--json"))
    for_people = media(used.env(), "failed", "list").stdout

    [upload], [letter] = answer["uploads"], answer["dead_letters"]
    assert (upload["id"], upload["source"]) == (id_of(PDF), PDF)
    assert upload["error"]["code"] == "unsupported_format"
    assert (letter["error"]["code"], letter["body"], letter["bytes"]) == (
        "invalid_event",
        REFUSED,
        len(REFUSED),
    )
    assert all(word in for_people for word in (PDF, "unsupported_format", "invalid_event", "elsewhere"))


# -- and where there is nothing yet


@pytest.mark.parametrize("command", [["show", CAT], ["failed", "list"], ["stats"], ["stats", "--scan"]])
def test_without_a_catalog_it_is_said_and_nothing_is_made(
    used: Workplace, tmp_path: Path, command: list[str]
) -> None:
    env = used.env(MEDIA_CATALOG_URL=f"sqlite+aiosqlite:///{tmp_path}/var/catalog.db")

    ended = media(env, *command, "--json")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no catalog" in ended.stderr
    assert list(tmp_path.iterdir()) == []
