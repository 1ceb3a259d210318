"""An app on Node with the client as npm installs it, which does what a test says in JavaScript."""

import json
import os
import shutil
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

from scripts.processes import LAUNCHER
from tests.support.clients import ROOT, ioredis, program

CLIENT = ROOT / "clients/node"
PACKAGE = json.loads((CLIENT / "package.json").read_text("utf-8"))
NEWEST_IOREDIS = "6.0.0"
_HARNESS = Path(__file__).with_suffix(".cjs")
_MAINS = {
    "mjs": 'import * as client from "media-worker-client"; import begin from "./harness.cjs"; begin(client);',
    "cjs": 'require("./harness.cjs")(require("media-worker-client"));',
}
_TIMEOUT_S = 40.0


class ThrownError(Exception):
    """What the code of a test has thrown: its stack."""


def packed_files() -> list[str]:
    """What `npm pack` takes, below the package's folder."""
    given = [CLIENT / name for name in ("package.json", "README.md", "LICENSE", *PACKAGE["files"])]
    files = [file for path in given for file in (path.rglob("*") if path.is_dir() else [path])]
    return sorted(str(file.relative_to(CLIENT)) for file in files if file.is_file())


def install(folder: Path, version: str = NEWEST_IOREDIS, *beside: Path) -> Path:
    """Put the client and this ioredis where an app of `folder` finds them; `beside`: packages of others."""
    modules = folder / "node_modules"
    for name in packed_files():
        target = modules / PACKAGE["name"] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLIENT / name, target)
    for package in (ioredis(version) / "ioredis", *beside):
        (modules / package.name).symlink_to(package)
    return folder


class NodeApp:
    """A process of such an app; `module` is "mjs" or "cjs"."""

    def __init__(self, folder: Path, module: str = "mjs") -> None:
        self.folder = folder
        main = folder / f"main.{module}"
        main.write_text(_MAINS[module])
        shutil.copy(_HARNESS, folder / "harness.cjs")
        self._errors = folder / f"errors-{module}"
        words = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), program("node"), str(main)]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                words, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._numbers = count()
        self._answers: dict[int, Any] = {}
        self._answered = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def run(self, code: str, **given: Any) -> Any:
        """What the code returns. Raises: ThrownError."""
        number = next(self._numbers)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"number": number, "code": code, "given": given}) + "\n")
        self._process.stdin.flush()
        with self._answered:
            self._answered.wait_for(lambda: self._ended or number in self._answers, _TIMEOUT_S)
            answer = self._answers.pop(number, None)
        assert answer is not None, f"no answer to: {code}\n{self.errors}"
        if "error" in answer:
            raise ThrownError(answer["error"])
        return answer["value"]

    @property
    def errors(self) -> str:
        """What it has written to its standard error."""
        return self._errors.read_text("utf-8")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._answered:
                    answer = json.loads(line)
                    self._answers[answer["number"]] = answer
                    self._answered.notify_all()
        with self._answered:
            self._ended = True
            self._answered.notify_all()
