"""Entry of the command `media`: it runs the packages beside this file, whatever else has their names.

An app's own folders are often called `worker`, `storage` or `scripts` too, and what PYTHONPATH names comes
before what is installed.
"""

import gc
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGES = ("scripts", "worker", "pipelines", "storage")
_HERE = os.path.dirname(os.path.abspath(__file__))
_OF_A_PROBE = {"--live", "--json", "--serve"}


class OwnPackages:  # a base class of importlib would take half of the time that `media health` has
    """Finds this project's packages, and no others, so that everything else is found as ever."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where one of our packages is; None for anything else."""
        return PathFinder.find_spec(name, [_HERE], target) if name in PACKAGES else None


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for some takes a while
    gc.disable()  # while almost everything that is made stays; what takes longer enables it again
    _open_what_is_closed()
    sys.meta_path.insert(0, OwnPackages())
    try:
        _run()
    finally:
        gc.freeze()  # at its end the interpreter looks through all that is left, for a quarter of the time


def _run() -> None:
    if sys.argv[1:2] == ["health"] and _OF_A_PROBE.issuperset(sys.argv[2:]):
        from scripts.health_probe import probe  # without what other commands import

        code = probe(live="--live" in sys.argv, as_json="--json" in sys.argv, serve="--serve" in sys.argv)
        if code is not None:
            sys.exit(code)
    from scripts.media import main as media  # only now is it sure that this is ours

    media()


def _open_what_is_closed() -> None:
    """A standard stream that is closed becomes /dev/null, lest a database get its number and messages."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (for as long as the process lives)


if __name__ == "__main__":
    main()
