"""`media enqueue`, as the person or the program that calls it sees it."""

import os
import signal
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import MEDIA, document, documents, media, on_a_terminal
from tests.support.workplace import Workplace

pytestmark = pytest.mark.rotating(5, of="module")


def a_file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def copies(place: Workplace, content: bytes) -> list[Path]:
    return list((place.root / "uploads/cli").rglob(f"{sha256(content).hexdigest()}*"))


@pytest.mark.rotating(1)
def test_a_file_is_followed_to_its_variants_and_reported_as_documented(
    live: Workplace, tmp_path: Path
) -> None:
    content = pictures.medium(1)
    path = a_file(tmp_path / "Cat.JPG", content)
    digest = sha256(content).hexdigest()

    ended = media(live.env(), "enqueue", path, "--wait", "--json")

    assert (ended.returncode, ended.stderr) == (0, "")
    answer = document(ended)
    variants = answer.pop("variants")
    source = f"uploads/cli/{digest[:2]}/{digest}.jpg"
    upload = live.check().uploads[source]
    assert answer == {
        "path": str(path),
        "id": upload["id"],
        "source": source,
        "status": "ready",
        "error": None,
    }
    assert [(v["name"], v["width"], v["height"]) for v in variants] == [
        ("thumb", 150, 113),
        ("medium", 800, 600),
        ("large", 1200, 900),
    ]
    assert all(v.keys() == {"name", "key", "width", "height", "bytes"} for v in variants)
    assert [v["bytes"] for v in variants] == [(live.root / v["key"]).stat().st_size for v in variants]


def test_a_refused_file_ends_the_waiting_with_exit_code_1_and_its_reason(
    live: Workplace, tmp_path: Path
) -> None:
    good = a_file(tmp_path / "good.jpg", pictures.small(2))
    bad = a_file(tmp_path / "bad.jpg", b"%PDF-1.7 is no picture")

    as_json = media(live.env(), "enqueue", good, bad, "--wait", "--json")
    for_people = media(live.env(), "enqueue", good, bad, "--wait")

    assert (as_json.returncode, for_people.returncode) == (1, 1)
    first, second = documents(as_json)
    assert (first["status"], second["status"]) == ("ready", "failed")
    assert second["variants"] == []
    assert second["error"].keys() == {"code", "message"}
    assert second["error"]["code"] == "unsupported_format"
    assert "bad.jpg" in for_people.stdout
    assert first["id"] in for_people.stdout
    assert "unsupported_format" in for_people.stdout
    assert "1 ready, 1 failed" in for_people.stdout


def test_a_folder_is_enqueued_with_its_folders_but_not_with_what_is_hidden(
    live: Workplace, tmp_path: Path
) -> None:
    for number, name in enumerate(["a.jpg", "b/c.jpg", "b/d/e.jpg", ".hidden.jpg", ".git/f.jpg"]):
        a_file(tmp_path / name, pictures.small(10 + number))
    (tmp_path / "b/loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")

    ended = media(live.env(), "enqueue", tmp_path, "--wait", "--json")

    assert ended.returncode == 0, ended.stderr
    names = [str(Path(answer["path"]).relative_to(tmp_path)) for answer in documents(ended)]
    assert names == ["a.jpg", "b/c.jpg", "b/d/e.jpg"]


def test_a_hidden_file_that_is_named_is_enqueued(live: Workplace, tmp_path: Path) -> None:
    ended = media(live.env(), "enqueue", a_file(tmp_path / ".x.jpg", pictures.small(20)), "--json")

    assert document(ended)["status"] == "enqueued"


def test_the_same_content_under_two_names_is_one_upload(live: Workplace, tmp_path: Path) -> None:
    content = pictures.small(21)
    paths = [a_file(tmp_path / name, content) for name in ("one.jpg", "two.jpg")]

    ended = media(live.env(), "enqueue", *paths, "--wait", "--json")

    one, two = documents(ended)
    assert (one["path"], two["path"]) == (str(paths[0]), str(paths[1]))
    assert {**one, "path": ""} == {**two, "path": ""}
    assert one["status"] == "ready"
    assert len(copies(live, content)) == 1
    shown = media(live.env(), "show", one["id"]).stdout  # the last has given it its name
    assert "     file  two.jpg\n" in shown


def test_a_file_that_is_too_large_is_refused_without_being_copied(live: Workplace, tmp_path: Path) -> None:
    content = b"x" * 2001
    path = a_file(tmp_path / "large.jpg", content)

    ended = media(live.env(MEDIA_MAX_SOURCE_BYTES="2000"), "enqueue", path, "--json")

    assert ended.returncode == 1
    answer = document(ended)
    assert (answer["status"], answer["error"]["code"]) == ("failed", "source_too_large")
    assert (answer["id"], answer["source"]) == (None, None)
    assert copies(live, content) == []


def test_an_unreadable_file_costs_only_itself(live: Workplace, tmp_path: Path) -> None:
    unreadable = a_file(tmp_path / "a.jpg", pictures.small(22))
    unreadable.chmod(0)
    a_file(tmp_path / "b.jpg", pictures.small(23))

    ended = media(live.env(), "enqueue", tmp_path, "--wait", "--json", confined=True)

    assert ended.returncode == 1
    first, second = documents(ended)
    assert first["error"]["code"] == "source_missing"
    assert "Permission denied" in first["error"]["message"]
    assert second["status"] == "ready"


HOSTILE = {
    b"escape\x1b]0;owned\x07.jpg": r"escape\x1b]0;owned\x07.jpg",
    b"[red]markup[/red][link=x].jpg": "[red]markup[/red][link=x].jpg",
    b"new\nline\r.jpg": r"new\nline\r.jpg",
    b"latin-\xe9\xff.jpg": r"latin-\xe9\xff.jpg",
    "turn\u202egpj.exe".encode(): r"turn\u202egpj.exe",
    b"--json": "--json",
}


def test_hostile_names_are_escaped_for_people_and_valid_for_programs(live: Workplace, tmp_path: Path) -> None:
    for name in HOSTILE:
        a_file(tmp_path / os.fsdecode(name), b"no picture: " + name)

    for_people = media(live.env(), "enqueue", "--wait", tmp_path)
    as_json = media(live.env(), "enqueue", "--wait", "--json", tmp_path)
    code, shown = on_a_terminal(live.env(), "enqueue", "--wait", tmp_path)

    assert (for_people.returncode, as_json.returncode, code) == (1, 1, 1)
    assert all(f"{tmp_path}/{text}" in for_people.stdout for text in HOSTILE.values())
    for output in (for_people.stdout, shown):
        assert not any(bad in output for bad in ("\x1b]0;", "\x07", "\u202e", "\x1b[31mmarkup"))
    assert len({answer["path"] for answer in documents(as_json)}) == len(HOSTILE)
    listed = media(live.env(), "failed", "list").stdout
    assert all(text.rpartition("/")[2] in listed for text in HOSTILE.values())
    assert "uploads/cli/" not in listed


@pytest.mark.parametrize("arguments", [["no-such-file.jpg"], ["--recipe", "huge", "--wait"], []])
def test_what_cannot_be_meant_ends_with_exit_code_2(
    live: Workplace, tmp_path: Path, arguments: list[str]
) -> None:
    path = a_file(tmp_path / "a.jpg", pictures.small(24))
    named = [str(path), *arguments] if arguments else []

    ended = media(live.env(), "enqueue", *named, "--json")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert all(word in ended.stderr for word in arguments if not word.startswith("-"))
    assert "Traceback" not in ended.stderr


def test_a_redis_that_is_away_is_named_with_the_variable_to_correct(live: Workplace, tmp_path: Path) -> None:
    path = a_file(tmp_path / "a.jpg", pictures.small(25))

    ended = media(live.env(MEDIA_REDIS_URL="redis://127.0.0.1:1/0"), "enqueue", path, "--json")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "MEDIA_REDIS_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_terminal_shows_how_many_are_done_how_fast_and_what_time_remains(
    live: Workplace, tmp_path: Path
) -> None:
    for number in range(30):
        a_file(tmp_path / f"{number}.jpg", pictures.medium(30 + number % 5) + bytes([number]))
    a_file(tmp_path / "bad.jpg", b"no picture")

    code, shown = on_a_terminal(live.env(), "enqueue", "--wait", tmp_path)

    assert code == 1
    assert "31/31" in shown
    assert "1 failed" in shown
    assert "/s" in shown
    assert "0:00:0" in shown


def test_nothing_but_the_report_is_printed_where_there_is_no_terminal(
    live: Workplace, tmp_path: Path
) -> None:
    ended = media(live.env(), "enqueue", a_file(tmp_path / "a.jpg", pictures.small(26)), "--wait")

    heading, row, _, title, columns, *variants, summary = ended.stdout.splitlines()
    assert (heading.split(), row.split()[0]) == (["file", "id"], str(tmp_path / "a.jpg"))
    assert (title.strip(), columns.split()) == ("Variants", ["file", "variant", "width", "height", "key"])
    assert [line.split()[:3] for line in variants] == [
        ["a.jpg", name, "60"] for name in ("thumb", "medium", "large")
    ]
    assert all((live.root / line.split()[-1]).is_file() for line in variants)
    assert (summary, ended.stderr) == ("1 ready, 0 failed", "")


def test_a_reader_that_goes_away_early_is_no_error(live: Workplace, tmp_path: Path) -> None:
    for number in range(3):
        a_file(tmp_path / f"{number}.jpg", pictures.small(40 + number))
    script = f'set -o pipefail; "$MEDIA" enqueue --wait --json "{tmp_path}" | true'

    ended = subprocess.run(
        ["bash", "-c", script], env=live.env(MEDIA=str(MEDIA)), capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stderr) == (0, "")


@WITH_SERVICES
def test_waiting_says_so_when_there_is_no_worker_and_goes_on(live: Workplace, tmp_path: Path) -> None:
    path = a_file(tmp_path / "a.jpg", pictures.small(27))
    nobody = live.env(MEDIA_STREAM="media:nobody-reads-this")
    waiting = subprocess.Popen([MEDIA, "enqueue", path, "--wait"], env=nobody, stderr=subprocess.PIPE)

    assert waiting.stderr is not None
    with waiting.stderr as answer:
        assert b"No worker is running" in answer.readline()
    assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(10) == 130


def test_waiting_ends_when_a_worker_refuses_the_event(live: Workplace, tmp_path: Path) -> None:
    path = a_file(tmp_path / "cat.jpg", pictures.small(77))
    recipes = a_file(tmp_path / "recipes.toml", b"[banner.wide]\nbox = 100\n")

    ended = media(
        live.env(MEDIA_RECIPES=str(recipes)), "enqueue", path, "--wait", "--json", "--recipe", "banner"
    )

    answer = document(ended)
    assert (ended.returncode, answer["status"], answer["error"]["code"]) == (1, "failed", "unknown_recipe")
