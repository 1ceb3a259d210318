"""Runs in an app's own Python, with Django and nothing of this project: code and answers, line by line."""

import json
import os
import sys
import traceback


def main() -> None:
    """Set up Django, then run the Python code of each line of JSON, and print its `answer`."""
    sys.path.insert(0, os.getcwd())
    import django  # type: ignore[import-not-found]  # of the app's Python alone

    django.setup()
    answers, sys.stdout = sys.stdout, sys.stderr  # what the code prints is no answer
    for line in sys.stdin:
        names: dict[str, object] = {"answer": None}
        try:
            exec(json.loads(line), names)
            told = {"answer": names["answer"]}
        except Exception:
            told = {"error": traceback.format_exc()}
        answers.write(json.dumps(told, default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
